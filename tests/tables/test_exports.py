"""A table as it is shown."""

import csv
import io
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
from made_up import PROTOCOL, SEVEN, config, corrected, declare, fill, put, result, seven_rows, stage
from matplotlib.backends.backend_agg import FigureCanvasAgg

from fer_lightning.cli import main
from fer_lightning.cli.table import table as fer_table
from fer_lightning.config import identity
from fer_lightning.core.errors import UserError
from fer_lightning.core.progress import duration
from fer_lightning.evaluation import results
from fer_lightning.evaluation.metrics import METRICS
from fer_lightning.tables.analysis.comparisons import own
from fer_lightning.tables.analysis.rows import load
from fer_lightning.tables.output import exports
from fer_lightning.tables.output.formats import percent
from fer_lightning.tables.output.overview_figure import draw
from fer_lightning.tables.output.verdicts import verdict

PLAIN, CLUSTER = ("softmax", "none"), ("cluster", "min_over_count")


@pytest.fixture(scope="module")
def seven(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seven")
    seven_rows(folder)
    return load(folder)


def shown(folder, rows):
    fill(folder, rows)
    return load(folder)


def read_csv(table):
    return list(csv.DictReader(io.StringIO(exports.to_csv(table))))


def test_csv_has_exactly_these_columns(seven):
    columns = ["method", "loss", "class_weights", "stage", "seeds", "planned"]
    columns += [f"{metric}_{part}" for metric in METRICS for part in ("mean", "std", "low", "high")]
    columns += [f"optimism_gap_{part}" for part in ("mean", "low", "high")]
    assert list(read_csv(seven)[0]) == columns


def test_csv_is_in_full_precision(seven):
    for line, row, (name, loss, weights) in zip(read_csv(seven), seven.rows, SEVEN, strict=True):
        assert (line["method"], line["loss"], line["class_weights"]) == (name, loss, weights)
        assert (line["stage"], line["seeds"]) == ("two_stage", "3")
        assert float(line["ece_mean"]) == row.mean("ece")
        assert float(line["macro_recall_std"]) == row.std("macro_recall")
        assert float(line["auroc_low"]) == own(row, "auroc").low
        assert float(line["auroc_high"]) == own(row, "auroc").high


def test_csv_leaves_empty_what_is_not_there(tmp_path):
    fill(tmp_path, {PLAIN: [0.6]})
    declare(tmp_path, [("softmax", *PLAIN), ("cluster", *CLUSTER)])
    one, none = read_csv(load(tmp_path))
    assert (one["seeds"], one["accuracy_mean"], one["accuracy_std"]) == ("1", "0.59", "")
    assert (none["seeds"], none["accuracy_mean"], none["accuracy_std"]) == ("0", "", "")


def test_markdown_worked_by_hand(tmp_path):
    table = shown(tmp_path, {PLAIN: [0.50, 0.54, 0.52]})
    line = next(line for line in exports.to_markdown(table).splitlines() if line.startswith("| softmax"))
    # accuracy is 0.51 +- 0.02, macro recall 0.52 +- 0.02, kappa 0.54 +- 0.02
    assert line.startswith("| softmax | 51.0 ± 2.0 | 52.0 ± 2.0 | 53.0 ± 2.0 | 0.540 ± 0.020 |")
    assert line.endswith("| 3 |")


def test_markdown_has_an_equal_number_of_runs_in_every_line(seven):
    lines = [line for line in exports.to_markdown(seven).splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} == {9, 5}
    assert "| center † |" in lines[4]
    assert "| training images | 1,234 | 500 | 40 |" in lines


def test_foot_says_what_a_reader_has_to_know(seven):
    text = exports.to_markdown(seven)
    for part in (
        "- Lambda is untuned.",
        "† marks the methods that the abstract of Ngo & Yoon",
        "Seeds: 0, 1, 2.",
        "Where a row has fewer than 5 seeds, no value of the table is marked as best",
        "Over the seeds only, because their runs hold no predictions for it, are the intervals of all rows.",
        "would add to macro recall. It was not measured.",
        "The choice of the 240 test images alone gives macro recall a standard error of 3.3 points.",
        "made up, 3 classes (neutral, happy, fear), faces of 64 pixels, backbone tiny (weights 01234567).",
        "copies of test images: 7. Files set aside as unusable: 3.",
        "Versions: python 3.12.1, torch 2.11.0.",
        "Run time of the 21 runs: 35 min.",
    ):
        assert part in text
    assert re.search(r"Protocol [0-9a-f]{8}:", text)
    assert "/home/" not in text


def test_random_weights_are_called_so(tmp_path):
    random = {"data": "x", "classes": ["neutral", "happy", "fear"], "backbone_weights": None}
    put(tmp_path, "a", result(0.5, config(), protocol=random))
    assert "(random weights)" in exports.to_markdown(load(tmp_path))


@pytest.mark.parametrize(
    ("backbone", "title", "expected"),
    [
        ("resnet18", "T", "T (resnet18 in place of SE-ResNet-50)"),
        ("mine.Net", "T on faces (48 px)", "T on faces (48 px) (mine.Net in place of SE-ResNet-50)"),
        ("resnet18", "T (tiny in place of SE-ResNet-50)", "T (tiny in place of SE-ResNet-50)"),
        ("legacy_seresnet50", "T", "T"),
    ],
)
def test_a_substitute_for_the_papers_backbone_is_in_the_title(tmp_path, backbone, title, expected):
    protocol = {**PROTOCOL, "backbone": backbone}
    put(tmp_path, "a", result(0.5, config(), protocol=protocol))
    declare(tmp_path, [("softmax", *PLAIN)], protocol, title=title)
    table = load(tmp_path)
    assert table.title == expected
    assert exports.to_markdown(table).startswith(f"# {expected}\n")
    assert f"caption{{{expected}. " in exports.to_latex(table)


def test_a_folder_without_a_title_says_its_backbone_too(tmp_path):
    fill(tmp_path / "runs", {PLAIN: [0.5]})
    assert load(tmp_path / "runs").title == "Results in runs (tiny in place of SE-ResNet-50)"


def test_mixed_provenance_is_listed(tmp_path):
    fill(tmp_path, {PLAIN: [0.5, 0.6]})
    other = {"versions": {"torch": "2.12.0"}, "machine": {"device": "cuda"}}
    put(tmp_path, "other", result(0.5, config("softmax", "none", 2), provenance=other))
    text = exports.to_markdown(load(tmp_path))
    assert "Versions: mixed. 2 runs with python 3.12.1, torch 2.11.0; 1 run with torch 2.12.0." in text
    assert "Machine: mixed." in text


def test_missing_seeds_are_shown(tmp_path):
    fill(tmp_path, {PLAIN: [0.6, 0.61]})
    declare(tmp_path, [("softmax", *PLAIN), ("cluster", *CLUSTER)])
    text = exports.to_markdown(load(tmp_path))
    assert "Only 2 of 6 runs are done." in text
    assert "| softmax | 59.5 ± 0.7 (2 of 3) | 60.5 ± 0.7 (2 of 3) |" in text
    assert "| cluster † | – | – | – | – | – | 0 of 3 |" in text
    assert "4 of 6 runs are missing: softmax has 0, 1; cluster has none." in text
    exports.picture(load(tmp_path), tmp_path / "partial.svg")


def test_show_refuses_a_table_that_lacks_runs_unless_that_is_asked_for(tmp_path, capsys):
    fill(tmp_path, {PLAIN: [0.6, 0.61]})
    declare(tmp_path, [("softmax", *PLAIN), ("cluster", *CLUSTER)])
    assert main.main(["table", "show", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "4 of 6 runs are missing: softmax has 0, 1; cluster has none; run the rest, or give --allow" in line
    assert not (tmp_path / "table.md").exists()
    assert main.main(["table", "show", str(tmp_path), "--allow-partial"]) == 0
    assert "2 of 3" in (tmp_path / "table.md").read_text()


def test_plain_baseline_that_wins_is_said_first(tmp_path):
    table = shown(tmp_path, {PLAIN: [0.64, 0.66, 0.65, 0.64, 0.66], CLUSTER: [0.60, 0.62, 0.611, 0.60, 0.62]})
    first = exports.to_markdown(table).split("\n\n")[1]
    assert first.startswith("No row is above the plain baseline: softmax")
    assert "4.0 points above the next row, cluster x min_over_count. The difference is decided" in first
    assert "(95 % interval 3.9 to 4.0 points; " in first


def test_difference_that_is_decided(tmp_path):
    low, high = [0.60, 0.61, 0.62, 0.60, 0.61], [0.65, 0.661, 0.671, 0.65, 0.661]
    said = verdict(shown(tmp_path, {PLAIN: low, CLUSTER: high}))
    assert said.startswith(
        "The highest mean macro recall, 65.9 %, is that of cluster x min_over_count, 5.1 points above the plain"
    )
    assert "The difference is decided (95 % interval 5.0 to 5.1 points; p < 0.001)." in said


def test_difference_above_two_standard_errors_may_be_undecided(tmp_path):
    said = verdict(shown(tmp_path, {PLAIN: [0.58, 0.61, 0.59], CLUSTER: [0.61, 0.66, 0.60]}))
    assert "These 3 seeds leave open which of the two is better; they only speak against differences" in said
    assert "outside the 95 % interval −2.0 to 8.0 points. If difference" in said
    assert said.endswith("stayed as they are, 5 seeds would decide it.")


def test_one_seed_says_nothing(tmp_path):
    assert verdict(shown(tmp_path, {PLAIN: [0.6], CLUSTER: [0.7]})).endswith(
        "One seed cannot say whether the two methods differ."
    )


def test_without_a_plain_row(tmp_path):
    table = shown(tmp_path, {CLUSTER: [0.6], ("center", "none"): [0.7]})
    assert "no row of softmax without class weights to compare it with" in verdict(table)
    assert "baseline" not in exports.to_markdown(table)


def test_one_row(tmp_path):
    assert "no other row" in verdict(shown(tmp_path, {CLUSTER: [0.6, 0.7]}))


LOW, HIGH = [0.60, 0.61, 0.62, 0.63, 0.60], [0.651, 0.66, 0.67, 0.68, 0.65]


def test_marks_need_five_seeds(tmp_path):
    four = shown(tmp_path, {PLAIN: LOW[:4], CLUSTER: HIGH[:4]})
    for text in (exports.to_markdown(four), exports.to_text(four), exports.to_html(four), exports.to_latex(four)):
        assert not re.search(r"\*\*|⁼|[0-9]\*|class=\"best|textbf", text)


def test_the_best_is_bold_and_those_not_shown_to_be_worse_are_marked(tmp_path):
    near = [value - 0.001 * (-1) ** k for k, value in enumerate(HIGH)]
    table = shown(tmp_path, {PLAIN: LOW, CLUSTER: HIGH, ("center", "none"): near})
    text = exports.to_markdown(table)
    assert "| cluster x min_over_count | **65.2 ± 1.3** |" in text
    assert "| center | 65.2 ± 1.3⁼ |" in text
    low_is_better = r"\| softmax \| 60.2 ± 1.3 \|[^\n]* \| \*\*0.672 ± 0.013\*\* \|"
    assert re.search(low_is_better, text)
    assert "Bold marks the best mean of a column, and ⁼ the values that are not shown to be worse" in text
    assert "No row is shown to be worse" not in text
    assert r"\textbf{65.2 $\pm$ 1.3}" in exports.to_latex(table)
    assert r"65.2 $\pm$ 1.3$^{=}$" in exports.to_latex(table)
    lines = exports.to_text(table).splitlines()
    assert re.search(r"^cluster.* 65.2 ± 1.3\* ", lines[3])
    assert re.search(r"^center.* 65.2 ± 1.3⁼ ", lines[2])
    assert lines[-1] == "* best of its column, ⁼ not shown to be worse"


def test_where_all_are_as_good_it_is_said(tmp_path):
    table = shown(tmp_path, {PLAIN: LOW, CLUSTER: LOW[::-1]})
    text = exports.to_markdown(table)
    assert text.count("61.2 ± 1.3**") == text.count("61.2 ± 1.3⁼") == 1
    assert "No row is shown to be worse than the best in: Accuracy, Macro recall, Macro F1" in text


class Structure(HTMLParser):
    """Rows of runs: (tag, attributes, text)."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.tags = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append((tag, dict(attrs), ""))

    def handle_data(self, data):
        if data.strip():
            tag, attributes, _ = self.rows[-1][-1]
            self.rows[-1][-1] = (tag, attributes, data)


def test_html_has_scopes_classes_and_what_it_is_sorted_by(tmp_path):
    fill(tmp_path, {PLAIN: LOW, CLUSTER: HIGH})
    rows = [('a <b> & "c"', *PLAIN), ("cluster", *CLUSTER), ("missing", "center", "none")]
    declare(tmp_path, rows[:2], seeds=[*range(5)])
    full = Structure(exports.to_html(load(tmp_path)))
    declare(tmp_path, rows, seeds=[*range(5)])
    partial = Structure(exports.to_html(load(tmp_path)))
    assert full.tags[:4] == ["table", "thead", "tr", "th"]
    assert {"script", "style", "b"}.isdisjoint(full.tags)
    assert all(attributes == {"scope": "col"} for _, attributes, _ in full.rows[0])
    assert len({len(row) for row in full.rows + partial.rows}) == 1
    tag, attributes, name = full.rows[1][0]
    assert (tag, attributes, name) == ("th", {"scope": "row"}, 'a <b> & "c"')
    _, best, text = full.rows[2][2]
    assert (best["class"], text) == ("best", "66.2 ± 1.3")
    assert float(best["data-sort"]) == pytest.approx(0.6622)
    _, gone, dash = partial.rows[3][2]
    assert (gone, dash) == ({"class": "missing"}, "–")
    assert "class" not in partial.rows[1][1][1]  # a row lacks seeds: no marks


def test_a_published_number_has_a_column_and_its_source_at_the_foot(tmp_path):
    fill(tmp_path, {PLAIN: [0.6, 0.61, 0.62], CLUSTER: [0.6, 0.61, 0.62]})
    declare(tmp_path, [("softmax", *PLAIN), ("cluster", *CLUSTER)])
    assert "Published" not in exports.to_markdown(load(tmp_path))
    told = json.loads((tmp_path / "table.json").read_text())
    source = "A et al. 2020, p. 7, Table 3"
    told["rows"][1]["published"] = {"value": 0.637, "metric": "macro_recall", "source": source}
    (tmp_path / "table.json").write_text(json.dumps(told))
    text = exports.to_markdown(load(tmp_path))
    assert "| Published | Seeds |" in text
    assert "| 63.7 (macro recall) | 3 |" in text
    assert f"not by this protocol: cluster, 63.7 (macro recall): {source}." in text
    assert "None of their numbers" not in text


def test_what_choosing_by_the_test_set_would_add_is_told(tmp_path):
    for seed, best in enumerate([0.65, 0.62, None]):
        epochs = [{"test/macro_recall": value} for value in (0.5, 0.6, best)]
        stages = [stage([]), {**stage(epochs if best else [{}]), "best_epoch": 1}]
        tested = 0.61  # with mirror images, say: not what an epoch is to be held against
        put(tmp_path, f"a{seed}", result(tested, config("softmax", "none", seed), stages=stages))
    table = load(tmp_path)
    told = "Over 2 runs it is 3.5 points on average (2.0 to 5.0), among the epochs of the last stage."
    assert told in exports.to_markdown(table)
    line = read_csv(table)[0]
    gap = [float(line[f"optimism_gap_{part}"]) for part in ("mean", "low", "high")]
    assert gap == pytest.approx([0.035, 0.02, 0.05])
    runs = list(csv.DictReader(io.StringIO(exports.to_runs_csv(table))))
    assert [run["optimism_gap"][:4] for run in runs] == ["0.05", "0.02", ""]


LR = "optimizer.lr"
ONE = {"keys": [LR], "points": [[0.1], [0.2], [0.3]], "scores": [[0.5], [0.54], [0.52]], "chosen": 1, "edge": []}
TWO = {**ONE, "keys": [LR, "loss.weight"], "points": [[0.1, 1.0], [0.2, 9.0], [0.3, 2e-05]]}
SEARCHES = [
    {"method": "softmax", **ONE, "second": 0.02},
    {"method": "rival", **ONE, "second": 0.02},
    {"method": "cluster", **TWO, "chosen": 2, "edge": [LR, "loss.weight"], "second": 0.0004},
]


def foot_of(folder, *searches, stage=None):
    """The notes of a table with a search."""
    stages = {"stage": stage} if stage else {}
    for seed in range(3):
        put(folder, f"a{seed}", result(0.6, config(*PLAIN, seed, **stages)))
        put(folder, f"b{seed}", result(0.6, config(*CLUSTER, seed, **stages)))
    rows = [("softmax", *PLAIN), ("rival", *PLAIN), ("cluster", *CLUSTER)]
    declare(folder, rows, search=searches, search_seeds=[7, 8])
    told = json.loads((folder / "table.json").read_text())
    for row, (_, *choices) in zip(told["rows"], rows, strict=True):
        row["settings"] = [identity.setting(config(*choices, **stages), PROTOCOL)]
    (folder / "table.json").write_text(json.dumps(told))
    return exports.to_markdown(load(folder))


def test_the_search_is_told_at_the_foot(tmp_path):
    text = foot_of(tmp_path, *SEARCHES)
    assert (
        "Before the table every row had the same search: 3 points of one scrambled Sobol sequence with seeds "
        "7, 8, of which the one with the best macro recall on the minival was chosen. No trial saw the test set. "
        "All rows tried the same values of optimizer.lr. At the edge is the lowest or the highest value that was "
        "tried: a better one may lie beyond."
    ) in text
    for told in (
        "softmax; rival: optimizer.lr=0.2; the second best is 2.0 points lower.",
        "cluster: optimizer.lr=0.3 (at the edge), loss.weight=2e-05 (at the edge); the second best "
        "is 0.0 points lower.",
    ):
        assert f"- Searched: {told}" in text
    assert "concerns the last stage" not in text


@pytest.mark.parametrize(
    ("key", "loss", "told"),
    [
        ("stage.fine_tuning.lr_scale", "softmax", True),
        ("stage.fine_tuning.lr_scale", "configured", False),  # lambda has a part in the first stage
        ("optimizer.lr", "softmax", False),
        ("stage.feature_extraction.lr_scale", "softmax", False),
        ("stage.epochs", "softmax", False),
    ],
)
def test_a_search_of_the_last_stage_alone_is_told(tmp_path, key, loss, told):
    searches = [{**search, "keys": [key, *search["keys"][1:]]} for search in SEARCHES]
    stage = {"epochs": 3, "feature_extraction": {"loss": loss}, "fine_tuning": {"loss": "configured"}}
    text = foot_of(tmp_path, *searches, stage=stage)
    sentence = (
        "The search concerns the last stage alone: feature_extraction before it is fixed, and all trials of a row "
        "with one seed start from the same one."
    )
    assert (sentence in text) == told


def test_points_that_are_all_the_same_have_no_second(tmp_path):
    search = {"method": "softmax", **ONE, "points": [["a"], ["a"]], "scores": [[0.5], [0.5]], "second": None}
    text = foot_of(tmp_path, search)
    assert "Searched: softmax: optimizer.lr=a; all points were the same." in text


def test_the_search_of_another_version_is_refused_in_one_line(tmp_path):
    old = {"method": "softmax", "key": LR, "values": [0.1], "scores": [[0.5]], "chosen": 0.1, "edge": True}
    with pytest.raises(UserError, match=r"table.json: its search was recorded by another version; run the table"):
        foot_of(tmp_path, old)


def test_a_correction_may_be_a_column(tmp_path):
    for seed, value in enumerate([0.50, 0.52, 0.54]):
        put(tmp_path, f"a{seed}", result(value, config("softmax", "none", seed), posthoc=corrected(value)))
        lacking = {key: column for key, column in corrected(value).items() if key != "tau_norm"}
        put(tmp_path, f"b{seed}", result(value, config("cluster", "none", seed), posthoc=lacking))
    rows = [("softmax", *PLAIN), ("cluster", "cluster", "none")]
    declare(tmp_path, rows, metrics=["macro_recall", "logit_adjustment.macro_recall", "tau_norm.ece"])
    table = load(tmp_path)
    text = exports.to_markdown(table)
    assert "| Method | Macro recall | Macro recall, logit adjustment | ECE, tau-norm |" in text
    assert "| softmax | 52.0 ± 2.0 | 57.0 ± 2.0 | 0.580 ± 0.020 |" in text
    assert "| cluster † | 52.0 ± 2.0 | 57.0 ± 2.0 | – |" in text
    assert "a dash means that the loss does not allow it" in text
    assert float(read_csv(table)[0]["logit_adjustment.macro_recall_mean"]) == pytest.approx(0.57)
    fill(tmp_path, {("center", "none"): [0.5]})
    declare(tmp_path, [*rows, ("center", "center", "none")], metrics=["logit_adjustment.macro_recall"])
    with pytest.raises(UserError, match=r"center-none-s0: its result.json has no logit_adjustment column"):
        load(tmp_path)


def test_latex_is_escaped_and_has_the_same_numbers(tmp_path):
    fill(tmp_path, {CLUSTER: [0.6, 0.61]})
    declare(
        tmp_path, [("50% {a_b} & ~#$^\\ [x]", *CLUSTER)], seeds=[0, 1], title="T & U", substitute="Stand-in_set."
    )
    text = exports.to_latex(load(tmp_path))
    escaped = r"50\% \{a\_b\} \& \textasciitilde{}\#\$\textasciicircum{}\textbackslash{} {[}x{]} \textdagger{}"
    interval = "{[}54.1, 66.9{]}"  # t of one degree of freedom times 0.5 points
    numbers = r"59.5 $\pm$ 0.7 & 60.5 $\pm$ 0.7 & 61.5 $\pm$ 0.7 & 0.625 $\pm$ 0.007"
    assert rf"{escaped} & {numbers} & {interval} & 2 \\" in text
    assert r"\caption{T \& U (tiny in place of SE-ResNet-50). The mean macro recall" in text
    assert r"Stand-in\_set." in text
    assert all(rule in text for rule in (r"\toprule", r"\midrule", r"\bottomrule"))
    assert text.count("{") == text.count("}")


def test_markdown_escapes_what_would_break_the_table(tmp_path):
    fill(tmp_path, {CLUSTER: [0.6]})
    declare(tmp_path, [("a|b*", *CLUSTER)], substitute="Stands in for AffectNet.")
    text = exports.to_markdown(load(tmp_path))
    assert r"| a\|b\* †" in text
    assert "\n\nStands in for AffectNet.\n\n" in text


def test_text_is_aligned_and_narrow(tmp_path):
    fill(tmp_path, {CLUSTER: [0.6, 0.61], PLAIN: [0.5]})
    declare(tmp_path, [("a method with a name " * 5, *CLUSTER), ("softmax", *PLAIN)])
    lines = exports.to_text(load(tmp_path)).splitlines()
    assert max(map(len, lines)) <= 100
    assert len(lines[0]) == len(lines[1]) == len(lines[-1])
    assert lines[0].split() == ["method", "seeds", "accuracy", "macro", "recall", "macro", "f1", "kappa"]
    assert lines[1].endswith("2 of 3  59.5 ± 0.7    60.5 ± 0.7  61.5 ± 0.7  0.625 ± 0.007")
    assert lines[-1].split()[:6] == ["softmax", "1", "of", "3", "49.0", "±"]


def test_numbers():
    assert [percent(0.1234), percent(-0.0004, sign=True), percent(-0.02), percent(0.02, sign=True)] == [
        "12.3",
        "0.0",
        "−2.0",
        "+2.0",
    ]
    assert [duration(59), duration(240), duration(3600 + 120)] == ["59 s", "4 min", "1 h 02 min"]


def test_write_and_picture(tmp_path):
    seven_rows(tmp_path)
    paths = exports.write(load(tmp_path), tmp_path / "out")
    assert [path.name for path in paths] == ["table.csv", "table.md", "table.tex", "runs.csv", "table.svg"]
    assert sorted((tmp_path / "out").iterdir()) == sorted(paths)
    texts = [node.text for node in ET.parse(paths[-1]).iter("{http://www.w3.org/2000/svg}text")]
    assert {"weighted softmax", "center †", "Macro recall, percent", "single seed"} <= set(texts)
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in exports.write(load(tmp_path), tmp_path / "out")] == before


def test_no_number_of_the_picture_is_cut_at_its_edge(seven):
    """Whatever the width that is left beside the names of the rows."""
    for letters in range(6, 20):
        figure = draw(seven)
        FigureCanvasAgg(figure)
        names, panel = figure.axes
        names.set_yticks(names.get_yticks(), ["m" * letters] * len(names.get_yticks()))
        panel.set_xlim(63.8, 82.5)
        figure.draw_without_rendering()
        numbers = [
            tick.label1.get_window_extent() for tick in panel.xaxis.get_major_ticks() if tick.get_loc() <= 82.5
        ]
        assert len(numbers) > 3
        assert max(number.x1 for number in numbers) <= figure.bbox.x1, letters


def test_nan_metric_is_a_dash(tmp_path):
    made = result(0.5, config())
    made["metrics"]["krippendorff_alpha"] = float("nan")
    put(tmp_path, "a", json.loads(json.dumps(made)))
    assert " | – | " in exports.to_markdown(load(tmp_path))


def test_nothing_heavy_is_imported(tmp_path):
    seven_rows(tmp_path)
    code = (
        "import sys; from pathlib import Path; from fer_lightning.tables.analysis import rows;"
        "from fer_lightning.tables.output import exports;"
        "exports.write(rows.load(Path(sys.argv[1])), Path(sys.argv[1]));"
        "print({'torch', 'hydra', 'omegaconf', 'pytorch_lightning', 'matplotlib.pyplot'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_contrasts_are_in_every_format_that_has_words(tmp_path):
    fill(tmp_path, {PLAIN: [0.50, 0.51, 0.52], CLUSTER: [0.60, 0.61, 0.62]})
    rows = [("softmax", *PLAIN), ("cluster", *CLUSTER)]
    declare(tmp_path, rows, contrasts=[["cluster", "softmax"], ["cluster", "not run"]])
    for text in (exports.to_markdown(load(tmp_path)), exports.to_latex(load(tmp_path))):
        assert text.count("cluster is 10.0 points above softmax. These 3 seeds suggest a difference (95") == 1


def test_runs_csv_has_a_line_a_run(tmp_path):
    drift = {"neutral": 0.1, "happy": 0.2, "fear": 0.3}
    put(tmp_path, "a", result(0.5, config("center", "none", 1), center_drift=drift))
    put(tmp_path, "b", result(0.6, config("softmax", "none", 0)))
    lines = list(csv.DictReader(io.StringIO(exports.to_runs_csv(load(tmp_path)))))
    softmax, center = lines
    assert (center["method"], center["seed"], center["center_drift_fear"]) == ("center", "1", "0.3")
    assert (softmax["method"], softmax["seed"], softmax["center_drift_fear"]) == ("softmax", "0", "")
    assert float(softmax["macro_recall"]) == pytest.approx(0.6)
    assert float(softmax["recall_happy"]) == pytest.approx(0.6)


def test_corrections_after_training_are_shown_beside_what_was_trained(tmp_path):
    for seed, value in enumerate([0.50, 0.52]):
        put(tmp_path, f"a{seed}", result(value, config("softmax", "none", seed), posthoc=corrected(value)))
    table = load(tmp_path)
    text = exports.to_markdown(table)
    assert "| softmax | 51.0 | 56.0 | 51.0 | 0.570 | 0.570 |" in text
    assert "| softmax + logit adjustment | 55.0 ± 1.4 | 56.0 ± 1.4 |" in text
    assert text.count("fitted on the minival") == 1
    line = next(csv.DictReader(io.StringIO(exports.to_runs_csv(table))))
    assert float(line["logit_adjustment_macro_recall"]) == pytest.approx(0.55)
    assert float(line["temperature_ece"]) == pytest.approx(0.56)


def test_results_without_corrections_have_no_such_lines(seven):
    assert "fitted on the minival" not in exports.to_markdown(seven)


def test_a_row_with_fewer_seeds_by_plan_is_complete_and_the_foot_says_so(tmp_path):
    fill(tmp_path, {PLAIN: [0.6, 0.61, 0.62], CLUSTER: [0.7, 0.71]})
    declare(tmp_path, [("softmax", *PLAIN), ("cluster", *CLUSTER)])
    told = json.loads((tmp_path / "table.json").read_text())
    assert "1 of 6 runs are missing: cluster has 0, 1." in exports.to_markdown(load(tmp_path))
    told["rows"][1]["seeds"] = [0, 1]
    (tmp_path / "table.json").write_text(json.dumps(told))
    table = load(tmp_path)
    assert table.runs == (5, 5)
    text = exports.to_markdown(table)
    assert "missing" not in text
    assert "Planned with fewer seeds: cluster with 2." in text
    assert "| 2 |" in text


def test_every_result_is_read_once_and_every_config_looked_at_once_for_its_label(tmp_path, monkeypatch):
    for k in range(12):
        said = config("center", "none", k % 3, loss={"weight": k // 3})
        put(tmp_path, f"center-{k}", result(0.5, said))
    seen = {"read": 0, "identity": 0}

    def counted(module, name):
        inner = getattr(module, name)

        def call(*given):
            seen[name] += 1
            return inner(*given)

        monkeypatch.setattr(module, name, call)

    counted(results, "read")
    counted(identity, "identity")
    assert fer_table(["show", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    assert seen == {"read": 12, "identity": 12 + 4}  # a result's setting, and a row's label
    assert "center, loss.weight=3," in (tmp_path / "out" / "table.csv").read_text().replace('"', "")
