"""Rows from results: which belong to which, and their numbers."""

import json
import math

import pytest
from made_up import PROTOCOL, SEVEN, config, corrected, declare, fill, put, result, seven_rows

from fer_lightning.core.errors import UserError
from fer_lightning.tables.analysis.comparisons import difference
from fer_lightning.tables.analysis.rows import load


def test_row_worked_by_hand(tmp_path):
    fill(tmp_path, {("softmax", "none"): [0.50, 0.54, 0.52]})
    row = load(tmp_path).rows[0]
    assert row.seeds == (0, 1, 2)
    assert row.mean("macro_recall") == pytest.approx(0.52)
    assert row.std("macro_recall") == pytest.approx(0.02)  # sqrt((0.02^2 + 0.02^2) / 2)
    assert row.mean_class_recall() == pytest.approx({"neutral": 0.62, "happy": 0.52, "fear": 0.42})


def test_std_of_one_seed_is_nan(tmp_path):
    fill(tmp_path, {("softmax", "none"): [0.5]})
    row = load(tmp_path).rows[0]
    assert math.isnan(row.std("accuracy"))


def test_class_without_test_image_is_nan(tmp_path):
    lacking = {"neutral": 0.5, "happy": 0.5, "fear": None}
    put(tmp_path, "a", result(0.5, config(), per_class_recall=lacking))
    assert math.isnan(load(tmp_path).rows[0].mean_class_recall()["fear"])


def test_rows_follow_the_tables_file(tmp_path):
    seven_rows(tmp_path)
    table = load(tmp_path)
    assert [row.method for row in table.rows] == [name for name, _, _ in SEVEN]
    assert [row.plain for row in table.rows] == [True] + 6 * [False]
    assert [row.abstract for row in table.rows[:3]] == [False, False, True]
    assert table.baseline is table.rows[0]
    assert (table.runs, table.images, table.left_out) == ((21, 21), 240, (7, 0, 3))


def test_missing_seeds_are_no_error(tmp_path):
    fill(tmp_path, {("softmax", "none"): [0.6, 0.61]})
    declare(tmp_path, [("softmax", "softmax", "none"), ("ours", "cluster", "none")])
    table = load(tmp_path)
    assert [row.seeds for row in table.rows] == [(0, 1), ()]
    assert table.runs == (2, 6)
    assert table.rows[1].loss == "cluster"  # from its overrides
    assert math.isnan(table.rows[1].mean("accuracy"))


def test_results_of_no_row_are_left_out_and_counted(tmp_path):
    fill(tmp_path, {("softmax", "none"): [0.6, 0.6, 0.6, 0.9], ("center", "none"): [0.9]})
    declare(tmp_path, [("softmax", "softmax", "none")])
    table = load(tmp_path)
    assert table.rows[0].seeds == (0, 1, 2)
    assert table.strays == 2


def test_no_results(tmp_path):
    with pytest.raises(UserError, match="no results; train runs"):
        load(tmp_path)
    fill(tmp_path, {("center", "none"): [0.5]})
    declare(tmp_path, [("softmax", "softmax", "none")])
    with pytest.raises(UserError, match="no results of this table"):
        load(tmp_path)


def test_mixed_protocols_are_refused(tmp_path):
    put(tmp_path, "small", result(0.5, config()))
    put(tmp_path, "large", result(0.5, config("center"), protocol={**PROTOCOL, "size": 112}))
    with pytest.raises(UserError, match="size differs: 64 in small; 112 in large; move"):
        load(tmp_path)


def test_mixed_protocols_name_all_keys_and_few_folders(tmp_path):
    fill(tmp_path, {("softmax", "none"): [0.5] * 5})
    put(tmp_path, "other", result(0.5, config("center"), protocol={**PROTOCOL, "classes": ["a"], "size": 1}))
    with pytest.raises(UserError, match=r"classes \(and size\) differs: neutral.* and 2 more; a in other"):
        load(tmp_path)


def test_two_results_of_a_seed_are_refused(tmp_path):
    put(tmp_path, "a", result(0.5, config()))
    put(tmp_path, "b", result(0.6, config()))
    with pytest.raises(UserError, match="a and b both hold seed 0 of softmax; delete one"):
        load(tmp_path)


def test_result_without_confusion_is_refused(tmp_path):
    lacking = result(0.5, config())
    del lacking["confusion"]
    put(tmp_path, "a", lacking)
    with pytest.raises(UserError, match=r"has no confusion; delete it"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("text", "says"), [("{", "not a table.json"), ("{}", "missing"), ("[]", "not a table.json")]
)
def test_broken_tables_file(tmp_path, text, says):
    fill(tmp_path, {("softmax", "none"): [0.5]})
    (tmp_path / "table.json").write_text(text)
    with pytest.raises(UserError, match=says):
        load(tmp_path)


def test_unknown_metric(tmp_path):
    fill(tmp_path, {("softmax", "none"): [0.5]})
    declare(tmp_path, [("softmax", "softmax", "none")], metrics=["accuracy", "uar"])
    with pytest.raises(UserError, match="no such metric: uar; there are accuracy"):
        load(tmp_path)


def test_labels_without_a_tables_file(tmp_path):
    fill(tmp_path, {("cluster", "min_over_count"): [0.7], ("softmax", "none"): [0.5], ("center", "none"): [0.6]})
    assert [row.method for row in load(tmp_path).rows] == ["softmax", "center", "cluster x min_over_count"]


def test_equal_labels_get_the_keys_they_differ_in(tmp_path):
    for k, (update, epochs) in enumerate([("exact", 3), ("running", 3), ("running", 5)]):
        stage = {"epochs": epochs, "fine_tuning": {"epochs": epochs, "lr_scale": 1.0}}
        put(tmp_path, str(k), result(0.5, config("cluster", loss={"center_update": update}, stage=stage)))
    assert [row.method for row in load(tmp_path).rows] == [
        "cluster, loss.center_update=exact, stage.epochs=3",
        "cluster, loss.center_update=running, stage.epochs=3",
        "cluster, loss.center_update=running, stage.epochs=5",
    ]


def test_another_option_stands_for_its_keys(tmp_path):
    tuned = config()
    frozen = config(stage={"epochs": 5, "feature_extraction": {"epochs": 5}})
    frozen["choices"]["stage"] = "feature_extraction"
    put(tmp_path, "a", result(0.5, tuned))
    put(tmp_path, "b", result(0.5, frozen))
    assert {row.method for row in load(tmp_path).rows} == {
        "softmax, stage=two_stage",
        "softmax, stage=feature_extraction",
    }


def test_seeds_and_paths_make_no_row(tmp_path):
    put(tmp_path, "a", result(0.5, config()))
    put(tmp_path, "b", result(0.5, config("softmax", "none", 1, backbone={"weights": "/elsewhere", "size": 64})))
    assert [row.seeds for row in load(tmp_path).rows] == [(0, 1)]


def test_soft_labels_are_not_plain(tmp_path):
    put(tmp_path, "a", result(0.5, config()))
    put(tmp_path, "b", result(0.6, config(data={"soft_labels": True})))
    table = load(tmp_path)
    assert [row.plain for row in table.rows if row.posthoc is None] == [True, False]
    assert table.baseline is not None
    assert table.baseline.mean("macro_recall") == pytest.approx(0.5)


def test_another_sampler_is_not_plain(tmp_path):
    balanced = config()
    balanced["choices"]["sampler"] = "balanced"
    put(tmp_path, "a", result(0.5, balanced))
    assert load(tmp_path).baseline is None


def fill_corrected(folder, rows):
    for (loss, weights), values in rows.items():
        for seed, value in enumerate(values):
            said = config(loss, weights, seed)
            put(folder, f"{loss}-{weights}-s{seed}", result(value, said, posthoc=corrected(value)))


def test_a_row_may_show_its_runs_after_a_correction(tmp_path):
    fill_corrected(tmp_path, {("softmax", "none"): [0.50, 0.54], ("cluster", "none"): [0.6, 0.7]})
    declare(
        tmp_path, [("softmax", "softmax", "none"), ("rival", "softmax", "none"), ("cluster", "cluster", "none")]
    )
    told = json.loads((tmp_path / "table.json").read_text())
    told["rows"][1]["posthoc"] = "logit_adjustment"
    (tmp_path / "table.json").write_text(json.dumps(told))
    table = load(tmp_path)
    plain, rival, _ = table.rows
    assert plain.values["macro_recall"] == pytest.approx([0.50, 0.54])
    assert rival.values["macro_recall"] == pytest.approx([0.55, 0.59])
    assert rival.class_recall["happy"] == pytest.approx([0.55, 0.59])
    assert table.baseline is plain
    assert difference(rival, plain).mean == pytest.approx(0.05)
    assert plain.corrected["logit_adjustment"]["macro_recall"] == pytest.approx([0.55, 0.59])
    assert rival.corrected == {}
    assert table.strays == 0


def test_a_folder_without_a_table_file_carries_the_plain_rival(tmp_path):
    fill_corrected(tmp_path, {("softmax", "none"): [0.50], ("cluster", "none"): [0.6]})
    assert [row.method for row in load(tmp_path).rows] == ["softmax", "softmax + logit adjustment", "cluster"]


def test_a_result_without_the_column_is_named(tmp_path):
    fill(tmp_path, {("softmax", "none"): [0.5]})
    declare(tmp_path, [("rival", "softmax", "none")])
    told = json.loads((tmp_path / "table.json").read_text())
    told["rows"][0]["posthoc"] = "tau_norm"
    (tmp_path / "table.json").write_text(json.dumps(told))
    with pytest.raises(UserError, match=r"softmax-none-s0: its result.json has no tau_norm column"):
        load(tmp_path)
