"""A run exported by ``fer export``: its predictions, the numbers in its card, and what must not be in it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
import pytest
import torch
from huggingface_hub import ModelCard
from runs import SMALL, fer, result

from fer_lightning import load_model
from fer_lightning.data import dataset
from fer_lightning.inference import use

TELLTALE = "telltale"


class Exported(NamedTuple):
    """The folders of a run and of its export, and what the command printed."""

    run: Path
    folder: Path
    out: str


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    base = tmp_path_factory.mktemp(TELLTALE)
    framed = ["data.size=40", "data.crop=32", "data.margin=0.3", "data.codec=jpeg", "data.flip_averaging=true"]
    learning = ["stage.epochs=1", "optimizer.lr=0.01", f"data.root={base / 'faces'}"]
    done = fer("train", *SMALL, *framed, *learning, f"hydra.run.dir={base / 'run'}")
    assert done.code == 0, done.out + done.err
    done = fer("export", str(base / "run" / "best.ckpt"), "--to", str(base / "exported"))
    assert done.code == 0, done.out + done.err
    return Exported(base / "run", base / "exported", done.out)


@pytest.mark.parametrize("batch", [1, 7, 33])
def test_the_test_pictures_are_predicted_as_in_the_test(exported: Exported, batch: int) -> None:
    rows = pq.read_table(exported.run / "predictions.parquet").to_pylist()
    faces = dataset.manifest(result(exported.run)["config"])
    shown = {row["id"]: row for row in faces.rows.to_pylist()}
    model = load_model(exported.folder)
    crops = []
    for known in (shown[row["id"]] for row in rows):
        box = known["x"], known["y"], known["width"], known["height"]
        crops.append(model.prepare(faces.root / known["path"], box))
    session = use.open_model(exported.folder / "model.onnx")
    found = []
    for part in torch.stack(crops).split(batch):
        found += session.run(["probabilities"], {"crops": part.numpy()})[0].tolist()
    for probabilities, row in zip(found, rows, strict=True):
        assert probabilities == pytest.approx([row[f"p_{name}"] for name in model.classes], abs=1e-6)


def test_the_cards_numbers_are_those_of_the_result(exported: Exported) -> None:
    card, told = ModelCard.load(exported.folder / "README.md"), result(exported.run)
    numbers = {one.metric_type: one.metric_value for one in card.data.eval_results}
    assert numbers == {name: value for name, value in told["metrics"].items() if value == value}
    assert {one.dataset_split for one in card.data.eval_results} == {told["protocol"]["test_split"]}
    lines = card.text.splitlines()
    for name, row in zip(told["classes"], told["confusion"], strict=True):
        assert f"| {name} | {' | '.join(map(str, row))} |" in lines
        recall = f"| {name} | {100 * told['per_class_recall'][name]:.1f} % |"
        assert any(line.startswith(recall) for line in lines)
        assert f" | {name} | {told['data']['train'][name]} | {told['data']['test'][name]} |" in card.text
    assert f"off by {100 * told['metrics']['ece']:.1f} points" in card.text


def test_nothing_tells_where_the_run_was(exported: Exported) -> None:
    assert TELLTALE in (exported.run / "result.json").read_text()
    for file in exported.folder.iterdir():
        assert TELLTALE.encode() not in file.read_bytes(), file.name


def test_a_mistake_is_told_in_one_line_and_nothing_is_written(exported: Exported, tmp_path: Path) -> None:
    target = tmp_path / "exported"
    checkpoint = str(exported.run / "best.ckpt")
    for words, said in (
        ([checkpoint], "the following arguments are required: --to"),
        ([str(tmp_path / "none.ckpt"), "--to", str(target)], "no such file"),
        ([checkpoint, "--to", str(exported.run)], "which is of no export; give a new folder with --to"),
        ([checkpoint, "--to", str(target), "--correct", "temperatur"], "did you mean temperature?"),
    ):
        code, out, err = fer("export", *words)
        assert (code, out) == (2, "")
        assert said in err
        assert len(err.splitlines()) == 1
        assert not target.exists()


def test_a_result_of_another_run_is_not_taken_for_the_models(exported: Exported, tmp_path: Path) -> None:
    (tmp_path / "best.ckpt").write_bytes((exported.run / "best.ckpt").read_bytes())
    text = (exported.run / "result.json").read_text()
    (tmp_path / "result.json").write_text(text.replace('"batch_size": 16', '"batch_size": 17'))
    code, _, err = fer("export", str(tmp_path), "--to", str(tmp_path / "exported"), "--no-onnx")
    assert code == 2
    assert "is of another run than the checkpoint beside it" in err
    (tmp_path / "result.json").unlink()
    code, out, _ = fer("export", str(tmp_path), "--to", str(tmp_path / "exported"), "--no-onnx")
    assert code == 0
    assert "no test is known" in out
