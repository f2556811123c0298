"""The benchmarks run: a dry run of each on the CPU, with numbers that mean nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "experiments" / "benchmarks"


def run(script: str, *words: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(BENCHMARKS / script), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_throughput_on_the_cpu() -> None:
    words = [
        "--device",
        "cpu",
        "--backbone",
        "resnet18",
        "--size",
        "32",
        "--batch",
        "8",
        "--steps",
        "2",
        "--rounds",
        "1",
    ]
    text = run("throughput.py", *words)
    told = json.loads(text[text.index("{") :])
    assert told["device"] == "cpu"
    assert told["fer_lightning_images_per_second"] > 0
    ratio = told["fer_lightning_images_per_second"] / told["bare_loop_images_per_second"]
    assert told["ratio"] == pytest.approx(ratio, rel=0.1)  # of rounded numbers


def test_heads() -> None:
    text = run("heads.py", "--rounds", "3", "--batch", "16", "--features", "32")
    assert "softmax" in text
    assert "cluster, exact" in text


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_scale() -> None:
    told = json.loads(run("scale.py", "--rows", "500", "3000", "--images", "600"))
    assert list(told["manifest"]) == ["500", "3000"]
    assert all(0 < numbers["peak_mb"] < 500 and numbers["seconds"] > 0 for numbers in told["manifest"].values())
    assert told["store"]["open"]["seconds"] > 0
    assert told["store"]["load"]["growth_mb"] < 5


def test_loading(tmp_path: Path) -> None:
    out = tmp_path / "loading.json"
    run("loading.py", "--count", "34", "--batch", "8", "--rounds", "1", "--out", str(out))
    told = json.loads(out.read_text())
    rates = told["images_per_second"]
    assert {"ours, jpeg", "ours, raw", "cv2, albumentations", "timm (without rotation)"} <= rates.keys()
    for name, rate in rates.items():
        optional = name.startswith("WebDataset")
        assert (optional and rate == "not installed: webdataset") or rate > 0, name
    ours, theirs = rates["ours, raw"], rates["ImageFolder, PIL, torchvision v1"]
    assert told["ratios"]["ours, raw"]["ImageFolder, PIL, torchvision v1"] == pytest.approx(ours / theirs, rel=0.1)
    assert told["pictures"]["count"] == 32


def test_frozen() -> None:
    small = ["data.rows=803", "backbone.people=20", "backbone.pictures=10", "backbone.epochs=1"]
    text = run("frozen.py", *small, "--rounds", "1", "--epochs", "2")
    told = json.loads(text[text.index('{\n  "seconds') :])
    assert told["ratio"] == pytest.approx(told["rounds"][0]["through_the_backbone"] / told["rounds"][0]["cached"])
    assert told["overrides"] == small


def test_sharing() -> None:
    small = ["data.rows=803", "backbone.people=20", "backbone.pictures=10", "backbone.epochs=1", "stage.epochs=1"]
    small += ["stage.feature_extraction.epochs=1", "stage.fine_tuning.epochs=1"]
    text = run("sharing.py", *small, "--rows", "2")
    told = json.loads(text[text.index('{\n  "runs') :])
    assert told["runs"] == 2
    assert told["macro_recall_apart"]["largest"] < 0.01
    assert all(sum(parts.values()) == pytest.approx(2 * parts["all"], abs=1) for parts in told["seconds"].values())


def test_the_committed_epoch_from_embeddings_is_as_fast_as_promised() -> None:
    told = json.loads((BENCHMARKS / "frozen.json").read_text())
    assert told["ratio"] >= 80
    assert min(one["ratio"] for one in told["rounds"]) >= 80


def test_coverage() -> None:
    text = run("coverage.py", "--repeats", "3")
    told = json.loads(text[text.index('{\n  "repeats') :])
    assert len(told["cases"]) == 36
    assert set(told["coverage"]) == {"ours", "seeds", "bootstrap", "images", "quadrature", "satterthwaite"}


def test_the_committed_coverage_is_what_it_should_be() -> None:
    told = json.loads((BENCHMARKS / "coverage.json").read_text())
    ours = told["coverage"]["ours"]
    assert all(0.93 <= share <= 0.97 for share in ours["5 seeds and more"])
    assert all(0.93 <= share <= 0.975 for share in ours["all"])  # three seeds: too wide rather than too narrow
    assert all(case["contrasts"] <= 0.05 and case["marks"] <= 0.05 for case in told["equal_methods"])


def test_many_runs() -> None:
    told = json.loads(run("many_runs.py", "--runs", "200"))
    assert told["runs"] == 160  # the others are the same experiments in other words
    assert set(told["seconds"]) == {"planning", "status", "table"}
