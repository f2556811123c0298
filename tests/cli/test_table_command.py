"""``fer table``: what is complete is not run again, also after it was stopped in the middle."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TABLE = """
title: A small table
overrides: [data.rows=803, backbone.people=20, backbone.pictures=10, backbone.epochs=1, stage.epochs=1]
seeds: [0]
metrics: [accuracy, macro_recall]
contrasts: [[cluster, softmax]]
rows:
  - {method: softmax, overrides: [loss=softmax]}
  - {method: cluster, overrides: [loss=cluster], abstract: true}
"""


def table(action: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fer_lightning", "table", action, str(folder / "small.yaml")]
    options = ["--out", str(folder / "runs"), "--jobs", "1"]
    return subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the table was stopped after its first run."""
    folder = tmp_path_factory.mktemp("table")
    (folder / "small.yaml").write_text(TABLE)
    process = table("run", folder)
    deadline = time.monotonic() + 240
    while not list((folder / "runs").glob("cluster-*/log.txt")) and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 143, text
    assert "[1 of 2] softmax, seed 0" in text
    return folder


def results(folder: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in (folder / "runs").glob("*/result.json")}


def test_a_stopped_table_leaves_no_process(stopped: Path) -> None:
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert str(stopped) not in listed
    assert [name.split("-")[0] for name in results(stopped)] == ["softmax"]


def test_the_same_command_does_what_is_missing_and_then_nothing(stopped: Path) -> None:
    before = results(stopped)
    plan = table("plan", stopped).communicate()[0]
    assert "softmax: 0 of 1 missing" in plan
    assert "cluster: 1 of 1 missing" in plan
    again = table("run", stopped).communicate()[0]
    assert "1 of 2 runs are complete, 1 to do" in again
    assert before.items() <= results(stopped).items()
    complete = results(stopped)
    assert len(complete) == 2
    begin = time.monotonic()
    last = table("run", stopped).communicate()[0]
    assert time.monotonic() - begin < 60
    assert "all 2 runs are complete, nothing is trained" in last
    assert results(stopped) == complete
    for name in ("table.csv", "table.md", "table.tex", "table.svg", "runs.csv", "report.html"):
        assert str(Path("runs") / name) in last
        assert (stopped / "runs" / name).stat().st_size > 0
    assert "cluster" in (stopped / "runs" / "table.md").read_text()
