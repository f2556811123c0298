"""The report: one page that needs nothing else."""

import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import cv2
import numpy as np
import pyarrow as pa
import pytest
import torch
from furnished import CLASSES, EIGHT, furnish, furnished, placed_at_once, reported
from made_up import PROTOCOL, config, declare, fill, put, result, seven_rows, stage
from matplotlib.figure import Figure
from pyarrow import parquet
from torchmetrics.functional.classification import multiclass_calibration_error

from fer_lightning.cli.table import table as fer_table
from fer_lightning.core.errors import UserError
from fer_lightning.data.manifest import Manifest, make_rows
from fer_lightning.data.store.prepare import prepare
from fer_lightning.evaluation import results
from fer_lightning.tables.analysis.read_runs import FinishedRun
from fer_lightning.tables.analysis.rows import load
from fer_lightning.tables.output import search_summary
from fer_lightning.tables.output.page import (
    calibration,
    centers,
    confusion,
    embedding,
    figure_style,
    page,
    search,
    section,
)
from fer_lightning.tables.output.page.history import History
from fer_lightning.tables.output.page.probabilities import Probabilities, probabilities

ODD = "<b>\"a\" & 'b'</b></script><img src=x onerror=alert(1)> $\\alpha_ {} % 漢"
VOID = {"meta", "img", "br"}
FIRST = "c0-softmax-none-s0"


class Reading(HTMLParser):
    """The page's elements; fails where one is not closed in its turn."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.text = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def written(folder, out=None):
    """The page of a folder of runs: as text, and read."""
    text = page.write(load(folder), out or folder)[-1].read_text()
    return text, check(text)


def check(text):
    """It is whole, needs no network, its names are unique and lead somewhere, and all figures have words."""
    reading = Reading(text)
    names = [attributes["id"] for _, attributes in reading.elements if "id" in attributes]
    assert len(names) == len(set(names))
    for tag, attributes in reading.elements:
        for key, value in attributes.items():
            if key in ("src", "href", "xlink:href", "action", "data", "srcset"):
                assert value.startswith(("#", "data:image/jpeg;base64,")), (tag, key, value)
                assert not value.startswith("#") or value[1:] in names
            assert not key.startswith("on")
    assert {name[1:] for name in re.findall(r"url\(([^)]*)\)", text)} <= set(names)
    assert "@import" not in text
    assert not {"link", "iframe", "object", "embed", "base"} & {tag for tag, _ in reading.elements}
    drawn = reading.all("svg")
    assert all(one["role"] == "img" and re.search(r"\d", one["aria-label"]) for one in drawn)
    assert len({one["aria-label"] for one in drawn}) == len(drawn)
    assert all(one["alt"] for one in reading.all("img"))
    return reading


TSNE = embedding._tsne


@pytest.fixture(autouse=True)
def placed_quickly(monkeypatch):
    """One test and one command line place by t-SNE."""
    monkeypatch.setattr(embedding, "_tsne", placed_at_once)


@pytest.fixture
def undrawn(monkeypatch):
    """For pages whose sentences matter: figures are made up but not drawn."""
    monkeypatch.setattr(figure_style, "svg", lambda drawn: '<svg viewBox="0 0 1 1"></svg>')


@pytest.fixture(scope="module")
def runs():
    return reported()[0]


@pytest.fixture(scope="module")
def made():
    paths = reported()[1]
    return paths, paths[-1].read_text()


@pytest.fixture
def few(tmp_path):
    """Two rows by two seeds with all there is."""
    furnished(tmp_path / "runs", [EIGHT[0], EIGHT[-2]], seeds=2, images=80)
    return tmp_path / "runs"


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A store of 80 drawn test pictures, its ids and its hash."""
    root = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    names = [f"{k}.png" for k in range(88)]
    for name in names:
        cv2.imwrite(str(root / name), random.integers(0, 256, (40, 40, 3), dtype=np.uint8))
    labels = [CLASSES[k % 8] for k in range(88)]
    split = ["test"] * 80 + ["train"] * 8
    rows = make_rows({"id": names, "path": names, "label": labels, "split": split})
    found = Manifest("made-up", root, rows, tuple(CLASSES))
    made = prepare(found, root / "store", size=32, margin=0.0, codec="png", processes=1)
    return made.folder, made.split("test").ids, made.hash


def rename(file, ids):
    """Give a run's predictions other ids."""
    told = parquet.read_table(file)
    parquet.write_table(told.set_column(told.column_names.index("id"), "id", pa.array(ids)), file)


def edit(folder, change, name=results.RESULT):
    """Change the JSON files of a folder's runs."""
    for path in folder.glob(f"*/{name}"):
        told = json.loads(path.read_text())
        change(told)
        path.write_text(json.dumps(told))


def test_the_page_has_all_sections_and_a_figure_for_what_was_trained(made):
    reading = check(made[1])
    names = [one["id"] for one in reading.all("section")]
    assert names == [
        "recall", "confusion", "training", "embeddings", "spread", "centers", "calibration", "search", "mistakes",
        "again",
    ]  # fmt: skip
    assert [one["href"][1:] for one in reading.all("a")] == names
    figures = made[1].split("<section ")
    count = {name: part.count("<svg ") for name, part in zip(names, figures[1:], strict=True)}
    # eight rows, of which two share their runs; five heads have centers, and panels of one figure of the search
    assert {name: n for name, n in count.items() if n} == {
        "recall": 1, "training": 7, "embeddings": 7, "spread": 1, "centers": 5, "calibration": 7, "search": 4
    }  # fmt: skip
    text = "".join(reading.text)
    assert "The highest mean macro recall" in text
    assert "The comparisons this table was made for" in text
    assert "fer table run made_up seed=0" in text
    assert "the data's licence is not known to allow it" in text


def test_the_page_holds_no_ids_no_pictures_and_no_paths_where_they_may_not_be_shown(made):
    for text in (made[1], *(path.read_text() for path in made[0])):
        assert "secret" not in text
        assert "/home/" not in text
        assert "<img" not in text


def test_figures_are_files_too_on_white_and_by_themselves(made, runs):
    paths, _ = made
    assert paths[-1] == runs / "out" / "report.html"
    assert {path.parent for path in paths[:-1]} == {runs / "out" / "figures"}
    for path in paths[:-1]:
        text = path.read_text()
        ET.fromstring(text)
        assert "var(" not in text
        assert not {figure_style.INK, figure_style.LINE, figure_style.PAPER} & set(
            re.findall("#[0-9a-f]{6}", text)
        )


def test_the_page_is_the_same_again_and_embeddings_are_placed_once(few, monkeypatch):
    monkeypatch.setattr(embedding, "_tsne", TSNE)
    text, _ = written(few)

    def never(points):
        raise AssertionError("placed again")

    monkeypatch.setattr(embedding, "_tsne", never)
    assert written(few)[0] == text
    (few / FIRST / embedding.PLACED).write_bytes(b"no archive")
    with pytest.raises(AssertionError, match="placed again"):
        embedding.section(load(few))


def test_a_table_of_eight_rows_is_no_large_page(made):
    assert len(made[1].encode()) < 1.5e6


def test_names_stay_text(few):
    def odd(told):
        told["title"] = ODD
        told["notes"] = [ODD]
        told["rows"][0]["method"] = ODD
        told["rows"][1]["method"] = "very long " * 30
        told["command"] = ODD
        told["search"][0] |= {"method": ODD, "keys": [ODD]}

    told = json.loads((few / "table.json").read_text())
    odd(told)
    (few / "table.json").write_text(json.dumps(told))
    text, reading = written(few)
    assert "onerror" in text
    assert len(reading.all("script")) == 2
    assert not reading.all("b") + reading.all("i") + reading.all("img")
    assert "".join(reading.text).count(ODD) >= 10
    assert any(ODD in one["aria-label"] for one in reading.all("svg"))


def test_classes_with_odd_names(few):
    names = [*CLASSES[:6], "_hidden $x$", "<script>\"&amp;'\n"]

    def rename(told):
        text = json.dumps(told)
        for old, new in zip(CLASSES, names, strict=True):
            text = text.replace(json.dumps(old), json.dumps(new)).replace(f"/{old}", f"/{json.dumps(new)[1:-1]}")
        told.update(json.loads(text))

    edit(few, rename)
    for file in few.glob("*/*.parquet"):
        file.unlink()
    (few / "table.json").unlink()
    text, reading = written(few)
    assert len(reading.all("script")) == 2
    assert "&lt;script&gt;&#34;&amp;amp;&#39;\\n" in text
    assert "".join(reading.text).count("<script>\"&amp;'\\n") >= 2


ONE_ROW = {("focal", "none"): [0.5]}
TWO_ROWS = {("softmax", "none"): [0.5], ("cluster", "min_over_count"): [0.6]}


@pytest.mark.parametrize("rows", [ONE_ROW, TWO_ROWS], ids=["one row", "two rows"])
def test_old_results_give_sentences_instead_of_figures(tmp_path, rows):
    fill(tmp_path, rows)
    text, reading = written(tmp_path)
    assert len(reading.all("svg")) == 1  # recall by class
    for said in (
        "without a history",
        "without their embeddings",
        "without the geometry of their embeddings",
        "There is no history of centers",
        "predictions of these results (predictions.parquet) are missing",
        "Nothing was tuned",
    ):
        assert said in text
    assert len(reading.all("select")) == (0 if rows is ONE_ROW else 2)


def test_rows_that_lack_something_are_named(few, undrawn):
    for seed in (0, 1):
        folder = few / f"c0-softmax-none-s{seed}"
        (folder / "embeddings.npz").unlink()
        (folder / results.PREDICTIONS).unlink()
        told = json.loads((folder / results.RESULT).read_text())
        for trained in told["stages"]:
            del trained["history"]
        del told["geometry"]
        (folder / results.RESULT).write_text(json.dumps(told))
    text, _ = written(few)
    for said in ("a history", "embeddings", "this geometry", "predictions"):
        assert f"Rows without {said}: softmax." in text


def test_a_missing_row_and_a_class_without_images(few):
    shutil.rmtree(few / "c0-softmax-none-s0")
    shutil.rmtree(few / "c0-softmax-none-s1")

    def no_contempt(told):
        told["confusion"][-1] = [0] * 8
        told["per_class_recall"]["contempt"] = None
        told["data"]["train"]["contempt"] = 0
        told["geometry"]["within"]["contempt"] = None
        told["geometry"]["between"] = [[*line[:-1], float("nan")] for line in told["geometry"]["between"]]

    edit(few, no_contempt)
    for file in few.glob("*/*.parquet"):
        file.unlink()
    for file in few.glob("*/embeddings.npz"):
        kept = dict(np.load(file))
        kept["class_means"][-1] = np.nan
        kept.pop("centers", None)
        mine = kept["labels"] != 7
        kept |= {key: kept[key][mine] for key in ("embeddings", "labels", "ids", "predictions")}
        np.savez(file, **kept)
    text, _ = written(few)
    assert "because they have no training or no test images: contempt." in text
    assert "and 7 class means." in text
    assert re.search(r'<th scope="row">contempt</th>(<td>–</td>){8}', text)


def test_many_rows_unfold_and_a_few_are_in_colour(tmp_path, undrawn):
    values = {(f"loss{k}", "none"): [0.4 + 0.01 * k] for k in range(12)}
    fill(tmp_path, values)
    edit(tmp_path, lambda told: told.update(stages=[stage([{"train/loss": 1.0}])]))
    text, reading = written(tmp_path)
    assert "Only 7 of 12 rows have a colour" in text
    assert text.count("<summary>4 more</summary>") == 1
    assert len(reading.all("svg")) == 1 + 12
    assert "loss11" in [row.method for row in section.noted(load(tmp_path), 7)]  # the best


def test_of_very_many_rows_only_some_are_drawn(tmp_path, monkeypatch, undrawn):
    monkeypatch.setattr(section, "DRAWN", 3)
    monkeypatch.setattr(page, "DRAWN", 3)
    fill(tmp_path, {(f"loss{k}", "none"): [0.4 + 0.01 * k] for k in range(5)})
    assert [row.method for row in section.trained(load(tmp_path))] == ["loss2", "loss3", "loss4"]
    assert "Of 5 rows, 3 have figures of their own" in written(tmp_path)[0]


def test_what_is_damaged_is_said_in_one_line(few, undrawn):
    told = few / FIRST / results.PREDICTIONS
    parquet.write_table(parquet.read_table(told).drop_columns(["p_fear"]), told)
    with pytest.raises(UserError, match=r"predictions.parquet: no predictions of fer: .*p_fear.*delete it"):
        written(few)
    for file in few.glob("*/*.parquet"):
        file.unlink()
    (few / FIRST / "embeddings.npz").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"embeddings.npz: no embeddings of fer: .*delete it"):
        written(few)


def test_show_writes_the_page_and_names_it_last(tmp_path, capsys):
    seven_rows(tmp_path)
    assert fer_table(["show", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "out" / "report.html")


def test_nothing_heavy_is_imported_for_the_page(tmp_path):
    furnished(tmp_path, [EIGHT[-2]], seeds=1, images=80)
    code = (
        "import sys; from pathlib import Path; from fer_lightning.tables.analysis import rows;"
        "from fer_lightning.tables.output.page import page;"
        "print({'matplotlib', 'sklearn', 'cv2'} & set(sys.modules));"
        "page.write(rows.load(Path(sys.argv[1])), Path(sys.argv[1]));"
        "print({'torch', 'hydra', 'omegaconf', 'pytorch_lightning', 'matplotlib.pyplot'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["set()", "set()"]


def test_faces_are_shown_where_they_may_be_and_their_store_is_there(tmp_path, stored, undrawn):
    folder, ids, digest = stored
    protocol = {**PROTOCOL, "classes": CLASSES, "faces": digest}

    def fill_with(redistributable, runs, paths):
        provenance = {"versions": {}, "machine": {}, "paths": paths}
        data = {"train": dict.fromkeys(CLASSES, 10), "redistributable": redistributable}
        furnish(runs, "a", config(), 0.5, 80, provenance=provenance, protocol=protocol, data=data)
        rename(runs / "a" / results.PREDICTIONS, ids)
        return written(runs)

    text, reading = fill_with(True, tmp_path / "shown", {"faces": str(folder)})
    faces = reading.all("img")
    told = probabilities(tmp_path / "shown" / "a", CLASSES)
    wrong = int((told.values.argmax(1) != told.labels).sum())
    assert len(faces) == min(24, wrong) > 0
    assert all(re.fullmatch(r"A face labelled \w+, taken for \w+, \d+ %", face["alt"]) for face in faces)
    sure = [int(face["alt"].split()[-2]) for face in faces]
    assert sure == sorted(sure, reverse=True)
    for k, (may, paths) in enumerate([(False, {"faces": str(folder)}), (True, {"faces": "/nowhere"}), (True, {})]):
        text, reading = fill_with(may, tmp_path / str(k), paths)
        assert not reading.all("img")
        assert "The faces are not shown" in text


def test_reliability_is_torchmetrics_ece():
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.full(8, 0.3), 500)
    labels = random.integers(0, 8, 500)
    found = calibration.reliability(Probabilities([""] * 500, labels, probabilities))
    expected = multiclass_calibration_error(torch.tensor(probabilities), torch.tensor(labels), 8, n_bins=15)
    assert found.ece == pytest.approx(float(expected), abs=1e-6)
    assert found.counts.sum() == 500
    certain = calibration.reliability(Probabilities(["a"], np.array([1]), np.array([[1.0, 0.0]])))
    assert (certain.counts[-1], certain.ece) == (1, 1.0)


def test_shares_of_a_confusion_matrix_are_means_of_the_seeds_shares(tmp_path):
    put(tmp_path, "a", result(0.5, config(), confusion=[[1, 1, 0], [0, 4, 0], [0, 0, 0]]))
    put(tmp_path, "b", result(0.5, config("softmax", "none", 1), confusion=[[10, 0, 0], [10, 10, 20], [0, 0, 0]]))
    (row,) = load(tmp_path).rows
    expected = [[0.75, 0.25, 0], [0.125, 0.625, 0.25], [np.nan] * 3]
    np.testing.assert_allclose(confusion.share(row), expected)


def test_a_corrected_row_has_its_own_confusion_matrix(runs):
    told = json.loads((runs / FIRST / results.RESULT).read_text())
    table = load(runs)
    corrected = next(row for row in table.rows if row.posthoc)
    expected = told["posthoc"]["logit_adjustment"]["confusion"]
    assert corrected.runs[0].result.posthoc["logit_adjustment"].confusion == expected
    only = corrected.__class__(**{**vars(corrected), "runs": corrected.runs[:1]})
    counts = np.array(expected, float)
    np.testing.assert_allclose(confusion.share(only), counts / counts.sum(1, keepdims=True))


def finished(recall=0.5, **other):
    return FinishedRun("a", results.Result.model_validate(result(recall, config(), **other)))


def run(*stages, recall=0.5):
    told = [stage(epochs, f"s{k}") for k, epochs in enumerate(stages)]
    return finished(recall, stages=told)


def test_histories_of_several_runs_stand_on_one_axis():
    told = History([run([{"x": 1}, {"x": 2}], [{"x": 5}]), run([{"x": 3}], [{"x": 7}, {"y": 9}])])
    assert (told.stages, told.lengths, told.starts) == (["s0", "s1"], [2, 2], [1, 3])
    np.testing.assert_array_equal(told.values("x"), [[1, 2, 5, np.nan], [3, np.nan, 7, np.nan]])
    mean, low, high = section.over_seeds(told.values("x"))
    np.testing.assert_array_equal(mean, [2, 2, 6, np.nan])
    np.testing.assert_array_equal((low, high), [[1, 2, 5, np.nan], [3, 2, 7, np.nan]])
    assert told.chosen() == [[1, 1], [3, 3]]
    assert (told.first("x"), told.first("y")) == (1, 4)


def test_a_stage_of_one_epoch_is_seen():
    told = History([run([{"x": 1}, {"x": 2}], [{"x": 5}]), run([{"x": 3}, {"x": 4}], [{"x": 7}])])
    panel = Figure().subplots()
    told.line(panel, "x", band=True, color="black", label="x")
    line, point = panel.lines
    assert (line.get_marker(), point.get_marker()) == ("None", "o")
    np.testing.assert_array_equal(point.get_xydata(), [[3, 6]])
    *_, bar = panel.collections
    np.testing.assert_array_equal(bar.get_segments(), [[[3, 5], [3, 7]]])


def test_the_ratio_of_spread_and_distance_worked_by_hand():
    told = {"within": {"a": 1.0, "b": 2.0, "c": None}, "between": [[0, 3, 5], [3, 0, 4], [5, 4, 0]]}
    assert centers.ratio(finished(geometry=told)) == pytest.approx(1.5 / 4)
    assert centers.ratio(finished()) is None


def test_centers_are_placed_with_the_points_and_each_point_counts_to_its_nearest():
    points = np.array([[0.0, 0], [1, 0], [9, 0], [6, 0]])
    read = embedding.Embedded(points, np.array([0, 0, 1, 0]), np.array([[0.0, 0], [10, 0]]), True)
    assert embedding.nearest_is_own(read) == 0.75


def test_names_are_moved_apart_and_stay_inside():
    moved = figure_style.spaced(np.array([0.0, 0.01, 0.02, 0.98, 1.0]), 0.1, 0.0, 1.0)
    np.testing.assert_allclose(moved, [0, 0.1, 0.2, 0.9, 1.0])
    np.testing.assert_allclose(figure_style.spaced(np.zeros(3), 0.9, 0.0, 1.0), [0, 0.5, 1])


@pytest.mark.parametrize("values", [[0.0, 0.1], [0.1, 0.001], [0.1], ["b", "a"], [True, False]])
def test_a_search_over_any_values(values):
    one = {"method": "m", "keys": ["k"], "points": [[v] for v in values], "scores": [[0.5, 0.6]] * len(values)}
    one |= {"chosen": 0, "edge": ["k"], "second": None}
    (picture,) = search.section([one]).pictures
    told = f"k={search_summary.in_short(values[0])} (at the edge) was chosen."
    assert told in picture.description
    assert f"{values[-1]}: 55.0" in picture.description


def test_a_declared_table_without_a_search_or_command(tmp_path, undrawn):
    fill(tmp_path, {("softmax", "none"): [0.5, 0.6, 0.7]})
    declare(tmp_path, [("softmax", "softmax", "none")])
    text, _ = written(tmp_path)
    assert "This command runs the table again" not in text
