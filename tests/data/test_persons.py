"""No person and no copy of a picture in two parts: minival, a share held out, folds."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from bad_files import face
from layouts import put_folder

from fer_lightning.config.compose import Composer
from fer_lightning.core.errors import UserError
from fer_lightning.data import dataset
from fer_lightning.data.manifest import HeldOut
from fer_lightning.data.options import BatchOptions, select
from fer_lightning.data.split import minival
from fer_lightning.data.split import test_rows as rows_to_test
from fer_lightning.data.store.groups import joined

COMPOSE = Composer()
CLASSES = ("anger", "happy", "surprise")
PERSONS = 12
FRAMES = 4


def put_sequences(root: Path) -> None:
    """Sequences as CK+ has them: a person shows an emotion from neutral to its apex, frame by frame alike."""
    for person in range(PERSONS):
        for number, label in enumerate(CLASSES):
            start, apex = face(1000 * person + number), face(1000 * person + number + 500)
            for frame in range(FRAMES):
                share = 0.02 * frame
                pixels = cv2.addWeighted(start, 1 - share, apex, share, 0)
                file = root / label / f"S{person:03}_{number:03}_{frame:08}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(file), pixels)


def config(root: Path, *words: str) -> dict:
    return COMPOSE(
        [
            "data=folder",
            f"data.root={root}",
            f"data.store={root.parent / 'stores'}",
            f"data.classes=[{','.join(CLASSES)}]",
            "data.size=32",
            "data.codec=raw",
            "data.minival=0.2",
            *words,
        ]
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sequences") / "set"
    put_sequences(folder)
    return folder


def persons(ids) -> set[str]:
    return {name.rpartition("/")[2].partition("_")[0] for name in ids}


def sequences(ids) -> set[str]:
    return {name.rpartition("/")[2].rpartition("_")[0] for name in ids}


PERSON = r"data.group='(S\d+)_'"


def test_ten_folds_by_person_have_no_person_twice(root):
    tested = []
    for fold in range(10):
        store = dataset.store(config(root, "data.folds=10", f"data.fold={fold}", PERSON))
        train, test = store.split("train").ids, store.split("test").ids
        assert not persons(train) & persons(test)
        assert store.meta.tested_on == f"fold {fold} of 10"
        assert len(train) + len(test) == PERSONS * len(CLASSES) * FRAMES
        assert set(store.meta.counts["test"].values()) <= {FRAMES, 2 * FRAMES}
        tested += test
    assert len(tested) == len(set(tested)) == PERSONS * len(CLASSES) * FRAMES


def test_all_folds_share_a_store_and_none_its_identity(root):
    stores = [dataset.store(config(root, "data.folds=3", f"data.fold={fold}", PERSON)) for fold in range(3)]
    assert len({store.folder for store in stores}) == 1
    assert len({store.hash for store in stores}) == 3


@pytest.mark.parametrize("words", [["data.test_split=25%"], ["data.folds=4", "data.fold=1"]])
@pytest.mark.parametrize("group", [[], [PERSON]])
def test_near_copies_and_persons_stay_on_one_side(root, words, group):
    store = dataset.store(config(root, *words, *group))
    train, test = store.split("train"), store.split("test")
    kept_together = persons if group else sequences
    assert not kept_together(train.ids) & kept_together(test.ids)
    assert sum(len(split) for split in (train, test)) == PERSONS * len(CLASSES) * FRAMES
    assert all(store.meta.counts["test"].values())
    options = BatchOptions(**select(BatchOptions, config(root)["data"]))
    held_out = minival(train.labels, train.groups, options.minival, options.split_seed)
    ids = np.array(train.ids)
    assert not kept_together(ids[held_out]) & kept_together(ids[~held_out])
    assert held_out.any()


def test_images_and_labels_are_those_of_their_ids(root):
    store = dataset.store(config(root, "data.folds=3", "data.fold=1", PERSON))
    for name in ("train", "test"):
        split = store.split(name)
        for row in range(0, len(split), 7):
            label, _, file = split.ids[row].partition("/")
            assert CLASSES[split.labels[row]] == label
            shown = cv2.cvtColor(cv2.imread(str(root / label / file)), cv2.COLOR_BGR2RGB)
            expected = cv2.resize(shown, (32, 32), interpolation=cv2.INTER_AREA)
            assert (split.image(row) == expected).all()


def test_a_share_of_other_files_is_hardly_drawn_anew(root, tmp_path):
    put_sequences(tmp_path / "set")
    before = dataset.store(config(tmp_path / "set", "data.test_split=25%")).split("test").ids
    (tmp_path / "set/happy/S011_001_00000003.png").unlink()
    after = dataset.store(config(tmp_path / "set", "data.test_split=25%")).split("test").ids
    assert len(set(before) & set(after)) >= len(before) - FRAMES


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data.folds=3", "data.fold=3"], "data.fold=3: the 3 folds have the numbers 0 to 2"),
        (["data.folds=40", PERSON], "folds=40: there are only 12 groups of faces"),
        (["data.folds=3", "data.group='S(\\d+'"], r"data\.group=S\(\\d\+: it is no regular expression"),
        (["data.folds=3", "data.group='(?:S)'"], "it has no group; put the person in parentheses"),
        (["data.folds=3", r"data.group='(P\d+)_'"], "it is found in no path of .*, such as anger/S000_000"),
        (["data.folds=3", "data.group=subject"], "this layout has no columns to choose from"),
    ],
)
def test_mistakes_are_one_line(root, words, said):
    with pytest.raises(UserError, match=said):
        dataset.store(config(root, *words))


def test_folds_put_the_parts_of_a_set_together(tmp_path):
    put_folder(tmp_path / "set", names=CLASSES)
    store = dataset.store(config(tmp_path / "set", "data.folds=2"))
    assert sorted(len(store.split(name)) for name in ("train", "test")) in ([2, 4], [3, 3])


def test_groups_are_joined_in_chains():
    first, second = np.array([0, 0, 1, 2, 3]), np.array([7, 8, 8, 9, -1])
    groups = joined(first, second)
    assert groups[0] == groups[1] == groups[2]
    assert len(set(groups.tolist())) == 3


@pytest.mark.parametrize("seed", range(20))
def test_folds_are_balanced_as_far_as_groups_allow(seed):
    random = np.random.default_rng(seed)
    groups = np.repeat(np.arange(40), random.integers(1, 6, 40))
    labels = random.integers(0, 4, len(groups))
    names = [str(row) for row in range(len(groups))]
    folds = [rows_to_test(HeldOut(folds=5, fold=fold, seed=seed), labels, groups, names) for fold in range(5)]
    assert (np.sum(folds, axis=0) == 1).all()
    for fold in folds:
        assert not set(groups[fold]) & set(groups[~fold])
        shares = np.bincount(labels[fold], minlength=4) / np.bincount(labels)
        assert (abs(shares - 0.2) < 0.12).all()
