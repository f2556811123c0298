"""Command lines on a small drawn set: what a user types, and what must lie there afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from runs import SMALL, fer, result, scores

from fer_lightning.cli.train import train
from fer_lightning.config.compose import compose
from fer_lightning.config.shipped import groups, shipped
from fer_lightning.core.emotions import EMOTIONS
from fer_lightning.core.files import file_hash
from fer_lightning.evaluation.metrics import METRICS
from fer_lightning.inference.load_model import load_model
from fer_lightning.run import build, final_test
from fer_lightning.run.__main__ import main as run_main

# learning rate and epochs for predictions that differ from picture to picture
OF_BOTH = [*SMALL, "optimizer.lr=0.01", "stage.epochs=1", "stage.fine_tuning.epochs=4", "seed=3"]
SWEEP = [*OF_BOTH, "loss=cluster,softmax", "class_weights=min_over_count,inverse"]
RUN = [*OF_BOTH, "loss=cluster", "class_weights=min_over_count"]
TESTED = 3 * len(EMOTIONS)


def command(*words: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``fer`` as a user would, in a process of its own."""
    line = [sys.executable, "-m", "fer_lightning", *words]
    return subprocess.run(line, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pip would unpack from a wheel of this package."""
    source, folder = shipped("conf").parent, tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    made = subprocess.run(build, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


@pytest.fixture(scope="module")
def single(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one run, trained from the wheel in an empty folder."""
    empty = tmp_path_factory.mktemp("empty")
    done = command("train", *RUN, cwd=empty, PYTHONPATH=str(site))
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = empty.glob("runs/adhoc/cluster-min_over_count-two_stage-s3-*")
    told = np.array(result(folder)["confusion"])
    assert (told.sum(0) > 0).sum() > 3, "too few emotions are predicted for a test to notice a mistake"
    assert 0 < told.trace() < TESTED
    return folder


@pytest.fixture(scope="module")
def sweep(single: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep that holds the same run and one with another loss, both twice in other words."""
    folder = tmp_path_factory.mktemp("sweep")
    done = fer("train", "-m", *SWEEP, f"hydra.sweep.dir={folder}")
    assert done.code == 0, done.out + done.err
    assert done.out.count("not trained: ") == 2
    assert "class_weights=inverse is the same experiment as" in done.out.replace("\n", " ")
    return folder


def test_help_names_every_choice() -> None:
    done = command("--help")
    assert done.returncode == 0
    for group, options in groups().items():
        assert group in done.stdout
        assert ", ".join(options) in done.stdout


def test_train_help_names_every_choice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "conf/loss").mkdir(parents=True)
    (tmp_path / "conf/loss/mine.yaml").write_text("_target_: mine.MineHead\n")
    assert train(["loss=cluster", "--help", "--config-dir", str(tmp_path / "conf")]) == 0
    text = capsys.readouterr().out
    assert "logit_adjusted, mine, softmax" in text
    assert "  delta: 1.0\n" in text  # a value of the loss that the words choose
    for group, options in groups().items():
        assert group in text
        assert all(option in text for option in options)


def test_a_run_leaves_what_the_readme_promises(single: Path) -> None:
    told = result(single)
    assert set(METRICS) == set(told["metrics"])
    assert told["classes"] == list(EMOTIONS)
    assert set(told["per_class_recall"]) == set(EMOTIONS)
    assert {"protocol", "provenance", "config", "seed", "seconds", "center_drift", "center_spread"} <= set(told)
    assert sum(map(sum, told["confusion"])) == sum(told["data"]["test"].values()) == TESTED
    assert [sum(row) for row in told["confusion"]] == [3] * 8
    for column in told["posthoc"].values():
        assert set(METRICS) == set(column["metrics"])
        assert [sum(row) for row in column["confusion"]] == [3] * 8
    assert list(told["posthoc"]) == ["logit_adjustment", "tau_norm", "temperature"]
    assert told["posthoc"]["temperature"]["confusion"] == told["confusion"]
    table = pq.read_table(single / "predictions.parquet")
    corrected = [f"prediction_{name}" for name in told["posthoc"]]
    probabilities = [f"p_{name}" for name in EMOTIONS]
    assert table.column_names == ["id", "label", "prediction", *corrected, *probabilities, "person"]
    rows = table.to_pylist()
    assert len(rows) == TESTED
    right = sum(row["label"] == row["prediction"] for row in rows) / len(rows)
    assert right == pytest.approx(told["metrics"]["accuracy"], abs=1e-12)
    assert all(abs(sum(row[f"p_{name}"] for name in EMOTIONS) - 1) < 1e-9 for row in rows)
    for name, column in told["posthoc"].items():
        hits = sum(row["label"] == row[f"prediction_{name}"] for row in rows) / len(rows)
        assert hits == pytest.approx(column["metrics"]["accuracy"], abs=1e-12)
    assert told["data"]["redistributable"]


def test_every_epoch_is_written_down(single: Path) -> None:
    first, last = result(single)["stages"]
    assert [len(first["history"]), len(last["history"])] == [1, 4]
    assert all(not name.startswith("test/") for name in first["history"][0])
    chosen = last["history"][last["best_epoch"]]
    assert chosen["minival/macro_recall"] == pytest.approx(last["minival_macro_recall"], abs=1e-7)
    assert chosen["test/macro_recall"] == pytest.approx(result(single)["metrics"]["macro_recall"], abs=1e-6)
    assert chosen["minival/macro_recall"] == max(epoch["minival/macro_recall"] for epoch in last["history"])
    for epoch in last["history"]:
        parts = epoch["train/cross_entropy"] + epoch["train/center_term"]
        assert parts == pytest.approx(epoch["train/loss"], rel=1e-5)
        assert epoch["lr/neck"] > 0
        assert epoch["grad_norm/head"] > 0
        assert epoch["images_per_second"] > 0
        assert 0 < epoch["waiting_share"] < 1


def test_embeddings_are_kept_to_look_at(single: Path) -> None:
    kept = np.load(single / "embeddings.npz")
    shown = kept["labels"]
    assert kept["embeddings"].shape == (TESTED, 512)
    assert np.bincount(shown).tolist() == [3] * 8
    told = {row["id"]: row for row in pq.read_table(single / "predictions.parquet").to_pylist()}
    for name, label, predicted in zip(kept["ids"], shown, kept["predictions"], strict=True):
        row = told[str(name)]
        assert (row["label"], row["prediction"]) == (EMOTIONS[label], EMOTIONS[predicted])
    means = np.stack([kept["embeddings"][shown == k].mean(0, dtype=np.float64) for k in range(8)])
    within = result(single)["geometry"]["within"]
    rough = [np.sqrt(np.square(kept["embeddings"][shown == k] - means[k]).sum(1).mean()) for k in range(8)]
    assert np.allclose(rough, list(within.values()), rtol=1e-3)  # they are kept as float16
    between = np.array(result(single)["geometry"]["between"])
    exact = kept["class_means"].astype(np.float64)
    assert np.allclose(between, np.linalg.norm(exact[:, None] - exact[None], axis=2), atol=1e-4)
    assert kept["centers"].shape == (8, 512)


def test_of_many_embeddings_every_class_keeps_its_share(
    single: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(final_test, "EMBEDDINGS_KEPT", TESTED // 2)
    assert fer("evaluate", str(single / "best.ckpt"), f"hydra.run.dir={tmp_path / 'again'}").code == 0
    all_of_them, some = (np.load(folder / "embeddings.npz") for folder in (single, tmp_path / "again"))
    assert np.bincount(some["labels"]).tolist() == [2, 1] * 4
    where = [all_of_them["ids"].tolist().index(name) for name in some["ids"]]
    for what in ("embeddings", "labels", "predictions"):
        assert np.array_equal(some[what], all_of_them[what][where])
    assert np.array_equal(some["class_means"], all_of_them["class_means"])


def test_every_centers_drift_is_told(single: Path) -> None:
    told = result(single)
    assert set(told["center_drift"]) == set(told["center_spread"]) == set(EMOTIONS)
    assert all(0 <= drift < float("inf") for drift in told["center_drift"].values())
    assert all(spread > 1 for spread in told["center_spread"].values())


def test_the_epochs_are_logged_with_the_centers(single: Path) -> None:
    text = (single / "logs" / "fine_tuning" / "metrics.csv").read_text()
    header = text.splitlines()[0].split(",")
    assert {"train/loss", "minival/macro_recall", "center_drift/fear", "center_spread/fear"} <= set(header)


def test_the_checkpoint_is_readable_without_running_code_in_it(single: Path) -> None:
    checkpoint = torch.load(single / "best.ckpt", weights_only=True)
    assert checkpoint["fer_lightning"]["head"]["class"] == "fer_lightning.losses.cluster.ClusterHead"
    model = load_model(single / "best.ckpt")
    probabilities = model(torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8))
    assert model.classes == EMOTIONS
    assert torch.allclose(probabilities.sum(1), torch.ones(2))


def test_the_backbone_of_a_checkpoint_can_start_another_run(single: Path) -> None:
    path = single / "best.ckpt"
    backbone = build.backbone(compose(["backbone=tiny", f"backbone.weights={path}"]))
    trained = load_model(path).network.backbone.state_dict()
    assert backbone.weights_hash == file_hash(path)
    assert all(torch.equal(value, trained[name]) for name, value in backbone.state_dict().items())


def test_a_run_of_a_sweep_equals_the_single_run_to_the_last_digit(single: Path, sweep: Path) -> None:
    (run,) = sweep.glob("cluster-*")
    assert run.name.startswith("cluster-min_over_count-two_stage-s3-")
    assert scores(run) == scores(single)


def test_runs_that_agree_on_the_first_stage_train_it_once(sweep: Path) -> None:
    (other,) = sweep.glob("softmax-*")
    assert result(other)["stages"][0]["shared"]


def test_a_complete_sweep_is_not_trained_again(sweep: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in sweep.glob("*/result.json")}
    done = fer("train", "-m", *SWEEP, f"hydra.sweep.dir={sweep}")
    assert done.code == 0
    assert "all 2 runs are complete, nothing is trained" in done.out
    assert done.out.count("not trained: ") == 2
    assert {path: path.stat().st_mtime_ns for path in sweep.glob("*/result.json")} == before


def test_what_a_user_should_know_is_kept(single: Path) -> None:
    (text,) = result(single)["notices"]
    assert "nothing pushes classes apart" in text


def test_a_trial_leaves_the_minivals_score_and_nothing_of_the_test_set(single: Path, tmp_path: Path) -> None:
    assert run_main(["--trial", "--directory", str(tmp_path), *RUN]) == 0
    told = json.loads((tmp_path / "trial.json").read_text())
    assert told["minival_macro_recall"] == result(single)["stages"][-1]["minival_macro_recall"]
    assert {path.name for path in tmp_path.iterdir()} == {"trial.json", "logs"}
    names = {name for stage in told["stages"] for epoch in stage["history"] for name in epoch}
    assert {name.partition("/")[0] for name in names} >= {"train", "minival", "lr"}
    assert not any(name.startswith("test") for name in names)


def test_watching_the_test_set_changes_nothing_else(single: Path, tmp_path: Path) -> None:
    assert run_main(["--directory", str(tmp_path), *RUN, "optimism=false"]) == 0
    assert scores(tmp_path) == scores(single)
    first, second = (result(folder)["stages"][-1]["history"] for folder in (single, tmp_path))
    clock = ("images_per_second", "waiting_share")
    for watched, epoch in zip(first, second, strict=True):
        assert {key: value for key, value in epoch.items() if key not in clock} == {
            key: value for key, value in watched.items() if key not in clock and not key.startswith("test/")
        }


def test_a_folder_with_another_runs_result_is_not_overwritten(
    single: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (single / "result.json").read_bytes()
    assert run_main(["--directory", str(single), *RUN, "loss.weight=0.5"]) == 2
    assert "holds the result of another run" in capsys.readouterr().err
    assert (single / "result.json").read_bytes() == before


def test_evaluate_gives_the_result_again_from_the_checkpoint(single: Path, tmp_path: Path) -> None:
    words = ["evaluate", str(single / "best.ckpt"), "data=synthetic", f"hydra.run.dir={tmp_path / 'again'}"]
    assert fer(*words).code == 0
    assert scores(tmp_path / "again") == scores(single)
    assert result(tmp_path / "again")["protocol"] == result(single)["protocol"]


def test_a_sweep_over_data_that_is_not_there_says_so_once() -> None:
    done = fer("train", "-m", "data=affectnet", "data.root=/nowhere", "loss=softmax,center")
    assert done.code == 2
    assert len(done.err.strip().splitlines()) == 1
    assert "/nowhere" in done.err


def test_two_ranks_test_every_picture_once(single: Path, tmp_path: Path) -> None:
    words = [*RUN, "trainer=ddp_cpu", "data.minival=0.11"]
    done = fer("train", *words, f"hydra.run.dir={tmp_path / 'ddp'}")
    assert done.code == 0, done.out + done.err
    told = result(tmp_path / "ddp")
    assert sum(map(sum, told["confusion"])) == TESTED
    assert done.out.count("test: accuracy") == 1


def test_a_wheel_has_all_that_is_needed_in_an_empty_folder(site: Path, tmp_path: Path) -> None:
    assert (site / "fer_lightning" / "conf" / "config.yaml").is_file()
    assert (site / "fer_lightning" / "experiments" / "embedded.yaml").is_file()
    package = shipped("conf").parent / "fer_lightning"
    templates = {path.relative_to(package) for kind in ("j2", "css", "js") for path in package.rglob(f"*.{kind}")}
    assert len(templates) >= 10
    assert all((site / "fer_lightning" / path).is_file() for path in templates)
    assert not (site / "fer_lightning" / "experiments" / "results").exists()
    code = "import fer_lightning; print(fer_lightning.__file__)"
    here = {**os.environ, "PYTHONPATH": str(site)}
    where = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=here, capture_output=True, text=True)
    assert where.stdout.startswith(str(site))
