"""What runs predicted, paired by the pictures' ids."""

import json

import numpy as np
import pytest
from made_up import LABELS, config, predicted, put, result

from fer_lightning.cli import main
from fer_lightning.core.errors import UserError
from fer_lightning.tables.analysis.comparisons import difference
from fer_lightning.tables.analysis.rows import load
from fer_lightning.tables.compare_checkpoints import compare

RIGHT = LABELS.copy()
WRONG = (LABELS + 1) % 3
MIXED = np.where(np.arange(len(LABELS)) % 4 == 0, WRONG, RIGHT)


def run(folder, name, loss, seed, predictions, order=None, **other):
    ids = np.array([f"{place:03}" for place in range(len(LABELS))])
    order = np.arange(len(LABELS)) if order is None else order
    said = config(loss, "none", seed)
    predicted(folder, name, said, LABELS[order], predictions[order], ids=ids[order].tolist(), **other)


def test_pictures_are_paired_by_id_not_by_place(tmp_path):
    random = np.random.default_rng(0)
    for seed in range(3):
        run(tmp_path, f"a{seed}", "softmax", seed, MIXED)
        run(tmp_path, f"b{seed}", "cluster", seed, MIXED, order=random.permutation(len(LABELS)))
    table = load(tmp_path)
    plain, cluster = table.rows
    assert (cluster.pictures.predictions[""] == plain.pictures.predictions[""]).all()
    gap = difference(cluster, plain)
    assert (gap.mean, gap.image, gap.p_value()) == (0, 0, 1)


def test_other_pictures_are_refused(tmp_path):
    run(tmp_path, "a", "softmax", 0, RIGHT)
    predicted(tmp_path, "b", config("cluster"), LABELS, RIGHT, ids=[f"x{place}" for place in range(len(LABELS))])
    with pytest.raises(UserError, match="a and b were not tested on the same pictures"):
        load(tmp_path)


def test_other_labels_are_refused(tmp_path):
    run(tmp_path, "a", "softmax", 0, RIGHT)
    swapped = LABELS.copy()
    swapped[[0, 150]] = swapped[[150, 0]]
    ids = [f"{place:03}" for place in range(len(LABELS))]
    predicted(tmp_path, "b", config("cluster"), swapped, RIGHT, ids=ids)
    with pytest.raises(UserError, match="not tested on the same pictures"):
        load(tmp_path)


def test_predictions_of_another_result_are_refused(tmp_path):
    run(tmp_path, "a", "softmax", 0, RIGHT)
    told = json.loads((tmp_path / "a" / "result.json").read_text())
    told["confusion"][0][0] -= 1
    (tmp_path / "a" / "result.json").write_text(json.dumps(told))
    with pytest.raises(UserError, match=r"a/predictions.parquet: not of the result.json beside it"):
        load(tmp_path)


def test_a_class_that_the_result_has_not_is_refused(tmp_path):
    run(tmp_path, "a", "softmax", 0, RIGHT)
    told = json.loads((tmp_path / "a" / "result.json").read_text())
    told["classes"] = ["neutral", "happy", "contempt"]
    (tmp_path / "a" / "result.json").write_text(json.dumps(told))
    with pytest.raises(UserError, match="it names a class that the result has not"):
        load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no parquet at all"])
def test_a_broken_file_is_named(tmp_path, content):
    run(tmp_path, "a", "softmax", 0, RIGHT)
    (tmp_path / "a" / "predictions.parquet").write_bytes(content)
    with pytest.raises(UserError, match=r"a/predictions.parquet: cannot be read"):
        load(tmp_path)


def test_a_run_without_predictions_leaves_its_row_without(tmp_path):
    run(tmp_path, "a0", "softmax", 0, RIGHT)
    put(tmp_path, "a1", result(0.6, config("softmax", "none", 1)))
    run(tmp_path, "b0", "cluster", 0, RIGHT)
    plain, cluster = load(tmp_path).rows
    assert plain.pictures is None
    assert cluster.pictures is not None


def test_two_checkpoints_are_compared_by_mcnemar(tmp_path, capsys):
    first, second = RIGHT.copy(), RIGHT.copy()
    first[:10] = WRONG[:10]
    second[8:10] = WRONG[8:10]
    second[20] = WRONG[20]
    run(tmp_path, "a", "softmax", 0, first)
    run(tmp_path, "b", "softmax", 1, second, order=np.arange(len(LABELS))[::-1])
    assert main.main(["table", "compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    text = capsys.readouterr().out
    assert "95.0 % accuracy: a" in text
    assert "98.5 % accuracy: b" in text
    assert (
        "Of 200 test pictures 189 are right in both, 1 in the first only, 8 in the second only, 2 in neither"
        in text
    )
    assert "p = 0.039." in text  # 2 (1 + 9) / 2^9
    assert "This compares two checkpoints, not methods" in text


def test_what_cannot_be_compared_is_told(tmp_path, capsys):
    run(tmp_path, "a", "softmax", 0, RIGHT)
    run(tmp_path, "b", "softmax", 1, RIGHT, protocol={"size": 112, "classes": ["neutral", "happy", "fear"]})
    put(tmp_path, "c", result(0.5, config()))
    with pytest.raises(UserError, match=r"tested by different protocols: .*size"):
        compare(tmp_path / "a", tmp_path / "b")
    with pytest.raises(UserError, match=r"no predictions.parquet there"):
        compare(tmp_path / "a", tmp_path / "c")
    with pytest.raises(UserError, match=r"none: no result.json there"):
        compare(tmp_path / "a", tmp_path / "none")
    assert main.main(["table", "compare", str(tmp_path / "a")]) == 2
    assert "required: RUN" in capsys.readouterr().err
