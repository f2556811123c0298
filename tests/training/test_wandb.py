"""Weights & Biases: what a run holds, read back from its file; nothing leaves unasked, nothing private at all."""

from __future__ import annotations

import getpass
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import wandb
import wandb_file
from runs import SMALL

from fer_lightning.cli.table import table as table_command
from fer_lightning.config import identity
from fer_lightning.core.errors import UserError
from fer_lightning.core.files import content_hash
from fer_lightning.evaluation import results
from fer_lightning.run.__main__ import main as run_main
from fer_lightning.training.loggers import run_logger, run_summary, wandb_run
from fer_lightning.training.loggers.run_summary import About

WORDS = [*SMALL, "stage.epochs=2", "stage.fine_tuning.epochs=3", "loss=cluster", "class_weights=min_over_count"]
WORDS += ["optimizer.lr=0.01"]  # for scores that differ between epochs
PRIVATE = "somebodys_own_folder"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table's folder: a run and a trial of another, both logged to wandb without an account."""
    base = tmp_path_factory.mktemp(PRIVATE) / "small"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("WANDB_API_KEY", raising=False)
        for where, seed, also in (("run", 43, ()), ("trials/one", 44, ("--trial",))):
            words = [*also, "--directory", str(base / where), *WORDS, f"seed={seed}", "logger=wandb"]
            assert run_main(words) == 0
    return base


def only_run(folder: Path) -> wandb_file.Run:
    (path,) = (folder / "wandb").glob("offline-run-*/*.wandb")
    return wandb_file.read(path)


def result_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / results.RESULT).read_text())


def test_a_run_is_one_run_that_says_what_it_is(folder: Path) -> None:
    run, result = only_run(folder / "run"), result_of(folder / "run")
    assert run.about.display_name == "cluster-min_over_count-s43"
    assert run.about.run_group == f"small-{content_hash(result['protocol'])[:8]}"
    assert run.about.job_type == "fine_tuning"
    assert run.about.project == "fer_lightning"
    tags = {"loss=cluster", "class_weights=min_over_count", "stage=two_stage", "backbone=tiny"}
    assert set(run.about.tags) == tags
    assert run.about.run_id.startswith(identity.run_name(result["config"], result["protocol"])[-8:])
    assert run.config["protocol"] == result["protocol"]
    assert run.config["loss"] == result["config"]["loss"]
    assert run.config["data"] == {**result["config"]["data"], "root": None, "store": None}


def test_both_stages_are_on_one_axis_of_epochs(folder: Path) -> None:
    run, result = only_run(folder / "run"), result_of(folder / "run")
    (axis,) = [metric for metric in run.metrics if metric.glob_name == "*"]
    assert axis.step_metric == "epoch"
    rows = [row for row in run.history if "train/loss" in row]
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3, 4]
    told = [epoch for stage in result["stages"] for epoch in stage["history"]]
    for row, epoch in zip(rows, told, strict=True):
        assert {name: row[name] for name in epoch} == pytest.approx(epoch)
    assert {"train/center_term", "center_drift/fear", "center_spread/fear", "test/macro_recall"} <= rows[-1].keys()


def test_what_came_out_is_in_the_summary_and_drawn(folder: Path) -> None:
    run, result = only_run(folder / "run"), result_of(folder / "run")
    for metric, value in result["metrics"].items():
        assert run.summary[f"test/{metric}"] == value  # and not the last epoch's
    for name, value in result["per_class_recall"].items():
        assert run.summary[f"test/recall/{name}"] == value
    adjusted = result["posthoc"]["logit_adjustment"]["metrics"]["macro_recall"]
    assert run.summary["test/logit_adjustment/macro_recall"] == adjusted
    assert run.summary["minival/macro_recall"] == result["stages"][-1]["minival_macro_recall"]
    assert run.summary["optimism"] >= 0
    pictures = {"test/confusion", "test/class_recall", "test/embeddings"}
    assert {Path(path).parent.name for path in run.files} == {"test"}
    for name in pictures:
        path = run.summary[f"{name}/path"]
        (kept,) = (folder / "run" / "wandb").glob(f"offline-run-*/files/{path}")
        assert kept.read_bytes().startswith(b"\x89PNG")


def test_a_trial_is_a_run_of_its_tables_group_without_a_test(folder: Path) -> None:
    run = only_run(folder / "trials" / "one")
    assert run.about.job_type == "tune"
    assert run.about.run_group == only_run(folder / "run").about.run_group
    assert not [key for key in run.summary if key.startswith("test/")]
    assert run.summary["minival/macro_recall"] > 0
    assert not run.files


def sent(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """All that ``wandb sync`` would send: a run's file, and the files beside it."""
    for path in folder.rglob("offline-run-*/**/*"):
        if path.is_file() and path.suffix != ".log":
            yield path, path.read_bytes()


def private_words(folder: Path) -> set[bytes]:
    ids = [row["id"] for row in pq.read_table(folder / "run" / results.PREDICTIONS).to_pylist()]
    words = {PRIVATE, str(Path.home()), socket.gethostname(), getpass.getuser(), sys.executable, str(Path.cwd())}
    return {word.encode() for word in {*words, *ids, *(Path(one).name for one in ids)} if len(word) > 4}


def test_nothing_private_is_in_a_run(folder: Path) -> None:
    words = private_words(folder)
    assert len(words) > 24  # of every tested picture, and more
    seen = list(sent(folder / "run"))
    assert sorted(path.suffix for path, _ in seen) == [".png", ".png", ".png", ".wandb"]
    for path, data in seen:
        assert not [word for word in words if word in data], path


def test_paths_are_cut_to_a_files_name(tmp_path: Path) -> None:
    config = json.loads(json.dumps(made_up()))
    shown = run_summary.about(config, {}, tmp_path / "run").config
    assert shown["data"] == {"root": None, "store": None, "exclude": "copies.json", "classes": ["happy"]}
    assert shown["backbone"] == {"weights": "senet.safetensors", "files": ["own.py"]}
    assert config["data"]["root"] == "/data/AffectNet"


def made_up(**choices: str) -> dict[str, Any]:
    said = {
        "loss": "softmax",
        "class_weights": "none",
        "stage": "fine_tuning",
        "backbone": "tiny",
        "sampler": "shuffle",
    }
    return {
        "choices": {**said, **choices},
        "data": {"root": "/data/AffectNet", "store": "D:\\fer", "exclude": "x/copies.json", "classes": ["happy"]},
        "backbone": {"weights": "/home/me/senet.safetensors", "files": ["~/own.py"]},
        "stage": {"epochs": 3, "fine_tuning": {"epochs": 3}},
        "seed": 1,
    }


def test_a_runs_id_is_its_runs_in_its_table(tmp_path: Path) -> None:
    config = made_up()
    one = run_summary.about(config, {"size": 48}, tmp_path / "a" / "x")
    elsewhere = run_summary.about({**config, "logger": 1}, {"size": 48}, tmp_path / "more" / "a" / "y")
    assert one.id == elsewhere.id
    others = [
        run_summary.about(config, {"size": 48}, tmp_path / "b" / "x"),
        run_summary.about(config, {"size": 64}, tmp_path / "a" / "x"),
        run_summary.about({**config, "seed": 2}, {"size": 48}, tmp_path / "a" / "x"),
        run_summary.about(config, {"size": 48}, tmp_path / "a" / "trials" / "x", trial=True),
    ]
    assert len({one.id, *(other.id for other in others)}) == 5
    assert others[-1].group == one.group


def test_a_sampler_is_a_tag_where_it_is_not_the_usual_one(tmp_path: Path) -> None:
    assert "sampler=balanced" in run_summary.about(made_up(sampler="balanced"), {}, tmp_path / "x").tags
    assert not [tag for tag in run_summary.about(made_up(), {}, tmp_path / "x").tags if "sampler" in tag]


def test_an_upload_sends_runs_trials_and_table_and_the_second_replaces_the_first(folder: Path) -> None:
    ids = []
    for _ in range(2):
        assert table_command(["upload", str(folder), "--offline", "--project", "mine"]) == 0
        files = sorted((folder / "wandb").glob("offline-run-*/*.wandb"))
        runs = {run.about.job_type: run for run in map(wandb_file.read, files)}
        assert len(files) == 3
        ids.append({job: run.about.run_id for job, run in runs.items()})
    assert ids[0] == ids[1]
    assert set(runs) == {"fine_tuning", "tune", "table"}
    for job, place in (("fine_tuning", "run"), ("tune", "trials/one")):
        live = only_run(folder / place)
        assert ids[0][job] == live.about.run_id
        assert runs[job].about.run_group == live.about.run_group
        assert runs[job].config == live.config
        assert measured(runs[job].history) == measured(live.history)
        assert {k: v for k, v in runs[job].summary.items() if k.startswith(("test/", "minival/"))} == {
            k: v for k, v in live.summary.items() if k.startswith(("test/", "minival/"))
        }
    assert {run.about.project for run in runs.values()} == {"mine"}
    words = private_words(folder) - {str(Path.home()).encode()}  # the client notes where a table waits to be sent
    for path, data in sent(folder / "wandb"):
        assert not [word for word in words if word in data], path


def measured(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if not k.startswith("_")} for row in history if "train/loss" in row]


def test_the_tables_run_has_its_numbers_its_text_and_only_a_page_that_all_may_see(folder: Path) -> None:
    path = folder / "run" / results.RESULT
    kept = path.read_text()
    try:
        for free in (True, False):
            result = json.loads(kept)
            result["data"]["redistributable"] = free
            path.write_text(json.dumps(result))
            (folder / "report.html").write_text("<html>a face</html>")
            assert table_command(["upload", str(folder), "--offline"]) == 0
            runs = [wandb_file.read(one) for one in (folder / "wandb").glob("offline-run-*/*.wandb")]
            (run,) = [run for run in runs if run.about.job_type == "table"]
            (numbers,) = (folder / "wandb").glob("offline-run-*/files/media/table/table*.json")
            shown = json.loads(numbers.read_text())
            row = dict(zip(shown["columns"], shown["data"][-1], strict=True))
            assert row["macro_recall mean"] == result["metrics"]["macro_recall"]
            assert run.about.display_name == "small"
            assert "macro recall" in run.about.notes.lower()
            assert bool(list((folder / "wandb").rglob("*.html"))) == free
    finally:
        path.write_text(kept)
        (folder / "report.html").unlink()


def test_an_upload_of_nothing_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        table_command(["upload", str(tmp_path / "nothing"), "--offline"])


class Silent:
    """A server that accepts and never answers, and keeps who came, and with what."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.taken: list[socket.socket] = []
        self.heard: list[bytes] = []
        self.address = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        try:
            while True:
                self.taken.append(self.socket.accept()[0])
                self.heard.append(self.taken[-1].recv(100))
        except OSError:
            return


@pytest.fixture
def silent() -> Iterator[Silent]:
    server = Silent()
    yield server
    server.socket.close()
    for taken in server.taken:
        taken.close()


def live(directory: Path, *, offline: bool) -> None:
    """A run's logger from begin to end; training starts when ``of`` returns."""
    about = About("0123-4567", "name", "group", "fine_tuning", (), {})
    logger = run_logger.wandb(directory, about, project="p", offline=offline)
    logger.of("fine_tuning")
    stage = results.StageResult("fine_tuning", 1, 0, 0.5, 1.0, [{"train/loss": 1.0}])
    logger.epochs([asdict(stage)])
    logger.finish(results.TrialResult(minival_macro_recall=0.5, stages=[stage], config={}, seconds=1.0))
    (run,) = (directory / "wandb").glob("*run-*")  # what an attempt left is gone
    assert run.name.startswith("offline-run-")
    assert wandb_file.read(next(run.glob("*.wandb"))).summary["minival/macro_recall"] == 0.5


@pytest.fixture
def server(silent: Silent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Silent]:
    """The address of the server that never answers, and a key for it."""
    wandb.teardown()  # it keeps the address that it read first
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", silent.address)
    yield silent
    wandb.teardown()


NOWHERE = "http://127.0.0.1:9"


@pytest.mark.parametrize("answers", ["nobody", "a silent server"])
def test_without_an_answer_training_starts_in_time_and_goes_on_offline(
    answers: str, server: Silent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert wandb_run._settings(wandb).init_timeout == wandb_run.INIT_SECONDS <= 10  # the client's own is 90
    monkeypatch.setattr(wandb_run, "INIT_SECONDS", 1.0)
    if answers == "nobody":
        monkeypatch.setenv("WANDB_BASE_URL", NOWHERE)
    live(tmp_path / "run", offline=False)
    (note,) = [
        one.getMessage() for one in caplog.records if one.name == "fer_lightning.training.loggers.run_logger"
    ]
    assert note.startswith("notice: wandb: the run could not begin: CommError: ")
    assert note.endswith(f"the run goes on offline in {tmp_path / 'run' / 'wandb'}")


def test_without_an_account_nothing_is_asked_and_the_run_goes_on_offline(
    server: Silent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("WANDB_API_KEY")
    live(tmp_path / "run", offline=False)
    assert "UsageError: No API key configured" in caplog.text
    assert not server.taken


def test_offline_nothing_leaves(server: Silent, tmp_path: Path) -> None:
    live(tmp_path / "run", offline=True)
    assert not server.taken


ALONE = """
import sys
from pathlib import Path
from fer_lightning.training.loggers import wandb_run
from fer_lightning.training.loggers.run_summary import About
from fer_lightning.core.errors import UserError
for offline in (False, True):
    try:
        about = About("0123", "n", "g", "j", (), {})
        wandb_run.start(about, Path(sys.argv[1]), "p", offline=offline).finish(0, {}, {})
    except UserError as error:
        print(error)
"""


def test_nothing_but_the_run_is_sent_so_that_no_process_waits_at_its_end(server: Silent, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", ALONE, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("wandb: the run could not begin: CommError")
    assert server.heard
    assert all(
        request.startswith(b"POST /graphql") for request in server.heard
    )  # and no telemetry of the client's


def test_where_the_rest_is_not_sent_in_time_it_says_what_to_do(tmp_path: Path) -> None:
    class Slow:
        dir = str(tmp_path / "run-1" / "files")
        summary: dict[str, float] = {}  # noqa: RUF012

        def define_metric(self, *_: Any, **__: Any) -> None: ...

        def finish(self) -> None:
            raise TimeoutError

    with pytest.raises(UserError, match=r"not all was sent in 60 s; later: wandb sync --include-online .*/run-1$"):
        wandb_run.WandbBoard(Slow()).finish(0, {}, {})


def test_an_upload_that_gets_no_answer_says_so(
    folder: Path, server: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_run, "INIT_SECONDS", 1.0)
    with pytest.raises(UserError, match="wandb: the run could not begin"):
        table_command(["upload", str(folder)])
    assert not list((folder / "wandb").glob("run-*"))
