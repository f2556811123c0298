from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_lightning.core import files
from fer_lightning.core.emotions import AFFECTNET_TRAIN_COUNTS, EMOTIONS
from fer_lightning.core.errors import UserError
from fer_lightning.data.readers import synthetic as reader
from fer_lightning.data.synthetic import generate, shots
from fer_lightning.data.synthetic.action_units import (
    ACTION_UNITS,
    CONFUSIONS,
    EMOTION_AUS,
    Expression,
    prototype,
    sample,
)
from fer_lightning.data.synthetic.face_geometry import Pose
from fer_lightning.data.synthetic.faces import face_curves, landmarks
from fer_lightning.data.synthetic.identity import draw_identity
from fer_lightning.data.synthetic.shots import Parameters

ROWS, PER_CLASS = 70, 3
UNIT = 40.0
LEFT_BROW, RIGHT_BROW = slice(17, 22), slice(22, 27)
INNER_BROWS, OUTER_BROWS = [21, 22], [17, 26]
UPPER_LIDS, LOWER_LIDS = [37, 38, 43, 44], [40, 41, 46, 47]
CORNERS, LEFT_CORNER, RIGHT_CORNER = [48, 54], 48, 54
UPPER_LIP, LOWER_LIP, CHIN, WINGS = 62, 66, 8, [31, 35]


def read_list(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "Manually_Annotated_file_lists" / name).open(newline="") as stream:
        return list(csv.DictReader(stream))


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def people(rows: list[dict[str, str]]) -> set[str]:
    return {row["subDirectory_filePath"].split("/")[0] for row in rows}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "set"
    generate.generate(folder, Parameters(ROWS, seed=3, test_per_class=PER_CLASS))
    return folder


@pytest.fixture(scope="module")
def rows(folder: Path) -> list[dict[str, str]]:
    return read_list(folder, "training.csv") + read_list(folder, "validation.csv")


def test_layout_is_affectnets_old_one(folder: Path, rows: list[dict[str, str]]) -> None:
    assert tuple(rows[0]) == (
        "subDirectory_filePath",
        "face_x",
        "face_y",
        "face_width",
        "face_height",
        "facial_landmarks",
        "expression",
        "valence",
        "arousal",
    )
    stored = {p.relative_to(folder / "Manually_Annotated_Images").as_posix() for p in folder.rglob("*.jpg")}
    assert stored == {row["subDirectory_filePath"] for row in rows}
    assert len(stored) == ROWS + PER_CLASS * len(EMOTIONS)


def test_training_follows_affectnets_proportions(folder: Path) -> None:
    codes = [int(row["expression"]) for row in read_list(folder, "training.csv")]
    counts = np.bincount(codes, minlength=8)
    exact = ROWS * np.array(AFFECTNET_TRAIN_COUNTS) / sum(AFFECTNET_TRAIN_COUNTS)
    assert counts.sum() == ROWS
    assert np.abs(counts - exact).max() < 1


def test_test_part_is_balanced(folder: Path) -> None:
    codes = [int(row["expression"]) for row in read_list(folder, "validation.csv")]
    assert np.bincount(codes).tolist() == [PER_CLASS] * len(EMOTIONS)


@pytest.mark.parametrize("rows", [1, 7, 1000, 12000])
@pytest.mark.parametrize("proportions", ["affectnet", "uniform"])
def test_class_counts_sum_to_rows(rows: int, proportions: shots.Proportions) -> None:
    assert sum(shots.class_counts(rows, proportions)) == rows


def test_default_size_leaves_enough_of_the_rarest_class() -> None:
    assert min(shots.class_counts(12000, "affectnet")) >= 150


def test_faces_lie_inside_larger_pictures(folder: Path, rows: list[dict[str, str]]) -> None:
    for row in rows:
        picture = cv2.imread(str(folder / "Manually_Annotated_Images" / row["subDirectory_filePath"]))
        height, width = picture.shape[:2]
        x, y, w, h = (int(row[f"face_{name}"]) for name in ("x", "y", "width", "height"))
        assert x >= 0
        assert y >= 0
        assert x + w <= width
        assert y + h <= height
        assert 1.3 < width / w < 2.1
        assert 1.3 < height / h < 2.1
        points = np.array(row["facial_landmarks"].split(";"), float).reshape(68, 2)
        assert (points >= 0).all()
        assert (points <= (width, height)).all()
        inside = (points >= (x - 2, y - 2)) & (points <= (x + w + 2, y + h + 2))
        assert inside.all(axis=1).mean() > 0.8


def test_valence_and_arousal_are_in_range(rows: list[dict[str, str]]) -> None:
    values = np.array([[row["valence"], row["arousal"]] for row in rows], float)
    assert np.abs(values).max() <= 1
    happy = np.array([row["expression"] == "1" for row in rows])
    assert values[happy, 0].mean() > 0.2


def test_nobody_is_in_both_parts(folder: Path) -> None:
    train, test = (people(read_list(folder, name)) for name in ("training.csv", "validation.csv"))
    assert not train & test


def test_test_part_depends_on_the_seed_alone(folder: Path, tmp_path: Path) -> None:
    other, reseeded = tmp_path / "other", tmp_path / "reseeded"
    generate.generate(other, Parameters(11, seed=3, proportions="uniform", test_per_class=PER_CLASS))
    generate.generate(reseeded, Parameters(11, seed=4, test_per_class=PER_CLASS))
    assert read_list(other, "validation.csv") == read_list(folder, "validation.csv")
    assert read_list(reseeded, "validation.csv") != read_list(folder, "validation.csv")
    for row in read_list(other, "validation.csv"):
        path = Path("Manually_Annotated_Images") / row["subDirectory_filePath"]
        assert (other / path).read_bytes() == (folder / path).read_bytes()


def test_same_bytes_from_one_and_two_processes(folder: Path, tmp_path: Path) -> None:
    generate.generate(tmp_path / "two", Parameters(ROWS, seed=3, test_per_class=PER_CLASS), processes=2)
    assert digests(tmp_path / "two") == digests(folder)


def test_existing_folder_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="exists already"):
        generate.generate(folder, Parameters(ROWS, seed=3))


@pytest.mark.parametrize("wrong", [{"rows": 0}, {"test_per_class": 0}, {"intensity": 0.0}, {"label_noise": 1.0}])
def test_numbers_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=f"{next(iter(wrong))}="):
        Parameters(**{"rows": 8, "seed": 0, **wrong})


def test_nothing_is_left_of_an_interrupted_run(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate.generate(tmp_path / "half", Parameters(8, seed=0, test_per_class=1), interrupt)
    assert list(tmp_path.iterdir()) == []


def test_progress_ends_at_the_total(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    parameters = Parameters(80, seed=0, test_per_class=1)
    generate.generate(tmp_path / "set", parameters, lambda done, total: seen.append((done, total)))
    assert seen == [(64, 88), (88, 88)]


def test_label_noise_shows_a_confusable_emotion() -> None:
    fear = [shots.Shot(0, shots.TRAIN, index, 0, "fear", 1.0, 0.5) for index in range(400)]
    shown = [shots.shown_emotion(shot)[0] for shot in fear]
    assert set(shown) == {"fear", *CONFUSIONS["fear"]}
    assert 0.4 < np.mean([emotion == "fear" for emotion in shown]) < 0.6


def test_identities_are_labelled_crops() -> None:
    images, labels = generate.identities(3, 4, 48, seed=1)
    again, _ = generate.identities(3, 4, 48, seed=1, processes=2)
    assert images.shape == (12, 48, 48, 3)
    assert images.dtype == np.uint8
    assert labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    np.testing.assert_array_equal(images, again)


def test_contact_sheet_is_a_picture(tmp_path: Path) -> None:
    generate.contact_sheet(tmp_path / "sheet.png", columns=2, size=48)
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.shape[0] == 48 * len(EMOTIONS)


def points(expression: Expression) -> np.ndarray:
    face = draw_identity(np.random.default_rng(5))
    return landmarks(face_curves(face, expression, Pose(), UNIT))


def moved(*units: int, sides: tuple[float, float] = (1.0, 1.0)) -> np.ndarray:
    return points(Expression(dict.fromkeys(units, sides))) - points(Expression({}))


def test_landmarks_follow_the_68_point_scheme() -> None:
    face = points(Expression({}))
    assert face.shape == (68, 2)
    assert (np.diff(face[:17, 0]) > 0).all()  # the jaw from the picture's left to its right
    assert (np.diff(face[LEFT_BROW, 0]) > 0).all()
    assert (np.diff(face[RIGHT_BROW, 0]) > 0).all()
    assert face[CHIN, 1] == face[:, 1].max()
    np.testing.assert_allclose(face[CORNERS[0], 0], -face[CORNERS[1], 0], atol=0.6)
    for eye in (slice(36, 42), slice(42, 48)):
        ring = face[eye]
        after = np.roll(ring, -1, axis=0)
        area = (ring[:, 0] * after[:, 1] - ring[:, 1] * after[:, 0]).sum()  # twice, by the shoelace formula
        assert area > 0  # clockwise on a picture whose y points down


@pytest.mark.parametrize(
    ("unit", "which", "axis", "sign"),
    [
        (1, INNER_BROWS, 1, -1),
        (2, OUTER_BROWS, 1, -1),
        (4, INNER_BROWS, 1, 1),
        (5, UPPER_LIDS, 1, -1),
        (6, LOWER_LIDS, 1, -1),
        (7, LOWER_LIDS, 1, -1),
        (9, WINGS, 1, -1),
        (12, CORNERS, 1, -1),
        (15, CORNERS, 1, 1),
        (16, [LOWER_LIP], 1, 1),
        (20, [RIGHT_CORNER], 0, 1),
        (23, [RIGHT_CORNER], 0, -1),
        (26, [CHIN, LOWER_LIP], 1, 1),
    ],
)
def test_action_unit_moves_its_landmarks(unit: int, which: list[int], axis: int, sign: int) -> None:
    assert (sign * moved(unit)[which, axis] > 0.02 * UNIT).all()


def test_one_sided_unit_leaves_the_other_corner() -> None:
    shift = moved(12, sides=(0.0, 1.0))
    assert shift[RIGHT_CORNER, 1] < -0.1 * UNIT
    assert abs(shift[LEFT_CORNER, 1]) < 1e-9


def test_jaw_drop_opens_the_mouth() -> None:
    face = points(prototype("surprise"))
    assert face[LOWER_LIP, 1] - face[UPPER_LIP, 1] > 0.2 * UNIT


def test_every_emotion_has_known_units_and_confusions() -> None:
    assert tuple(EMOTION_AUS) == EMOTIONS
    assert tuple(CONFUSIONS) == EMOTIONS
    assert all(set(names) <= set(EMOTIONS) - {emotion} for emotion, names in CONFUSIONS.items())


def test_expressions_vary_but_show_their_emotion() -> None:
    rng = np.random.default_rng(0)
    drawn = [sample("fear", 0.8, rng) for _ in range(300)]
    means = {unit: np.mean([expression.mean(unit) for expression in drawn]) for unit in ACTION_UNITS}
    own = set(EMOTION_AUS["fear"])
    assert min(means[unit] for unit in own) > 5 * max(means[unit] for unit in set(ACTION_UNITS) - own)
    assert len({tuple(expression.sides) for expression in drawn}) > 10


NUMBERS = {"rows": 20, "seed": 1, "proportions": "affectnet", "intensity": 0.8, "label_noise": 0.0}
NUMBERS |= {"test_per_class": 2}


class TestReader:
    @pytest.fixture(autouse=True)
    def small(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("FER_CACHE", str(tmp_path / "cache"))

    def test_generates_once_and_names_people(self, monkeypatch: pytest.MonkeyPatch) -> None:
        first = reader.read(None, EMOTIONS, **NUMBERS)
        monkeypatch.setattr(generate, "generate", None)
        again = reader.read(None, EMOTIONS, **NUMBERS)
        assert first.hash() == again.hash()
        assert first.name == "synthetic"
        assert first.redistributable
        assert first.root.is_relative_to(files.home())
        assert set(first.counts("val").values()) == {2}
        assert sum(first.counts("train").values()) == 20
        for row in first.rows.to_pylist():
            assert row["path"].startswith(row["identity"])
            assert (first.root / row["path"]).is_file()

    def test_keeps_the_wanted_classes_only(self) -> None:
        manifest = reader.read(None, ("happy", "sad"), **NUMBERS)
        assert manifest.classes == ("happy", "sad")
        assert set(manifest.rows["label"].to_pylist()) == {"happy", "sad"}

    def test_refuses_a_folder_of_other_numbers(self, tmp_path: Path) -> None:
        root = str(tmp_path / "own")
        reader.read(root, EMOTIONS, **NUMBERS)
        with pytest.raises(UserError, match="seed=1, not 2"):
            reader.read(root, EMOTIONS, **{**NUMBERS, "seed": 2})

    def test_reads_a_set_that_was_drawn_before_the_test_part_had_a_size_of_its_own(self, tmp_path: Path) -> None:
        root = tmp_path / "own"
        reader.read(str(root), EMOTIONS, **NUMBERS)
        stored = json.loads((root / generate.PARAMETERS).read_text())
        del stored["test_per_class"]
        (root / generate.PARAMETERS).write_text(json.dumps(stored))
        with pytest.raises(UserError, match="test_per_class=300, not 2"):
            reader.read(str(root), EMOTIONS, **NUMBERS)
        reader.read(str(root), EMOTIONS, **{**NUMBERS, "test_per_class": 300})

    def test_refuses_a_folder_of_somebody_else(self, tmp_path: Path) -> None:
        (tmp_path / "own").mkdir()
        with pytest.raises(UserError, match="no drawn faces"):
            reader.read(str(tmp_path / "own"), EMOTIONS, **NUMBERS)
