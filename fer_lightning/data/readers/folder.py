"""Pictures in one folder per class, which lie in one folder per split or directly in the root."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from fer_lightning.core.emotions import known_name
from fer_lightning.data.counting import Progress, with_progress
from fer_lightning.data.manifest import Fault, Manifest
from fer_lightning.data.readers.common import Row, build_manifest, split_folders
from fer_lightning.data.readers.labels import (
    Labels,
    Names,
    chosen_classes,
    hint_at_labels,
    label_names,
    plain,
)
from fer_lightning.data.readers.layouts import Folder, Layout, as_text, has_pictures_ending, is_picture
from fer_lightning.data.readers.text_tables import look_at, read_csv


def _splits(folder: Folder) -> dict[str, str]:
    """Return the folder of each split; without one for training, the root is the training split."""
    splits = split_folders(name for name in folder.folders() if folder.is_folder(name))
    return splits if "train" in splits else {"train": "."}


def _holds(folder: Folder, known: Sequence[str] = (), classes: Sequence[str] = ()) -> bool:
    names = folder.folders(_splits(folder)["train"])
    return sum(known_name(name, classes) is not None or plain(name) in known for name in names) > 1


LIST = "labels.csv"
COLUMNS = ("pth", "label")
LAYOUT = Layout("folder", "class-name folders", "folders named after emotions, below train/ or not,", _holds)


def layout(classes: Sequence[str] | None, labels: Labels | None) -> Layout:
    """Return the layout for folders that may be named after the user's own classes and labels."""
    known = [plain(label) for label in labels or ()]
    return replace(LAYOUT, holds=partial(_holds, known=known, classes=classes or ()))


def read(
    root: str | None,
    classes: Sequence[str] | None,
    *,
    labels: Labels | None = None,
    follow_links: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Read pictures of faces that lie in folders named after their class: train/happy/1.jpg, or happy/1.jpg.

    Folders below a class folder belong to the class. A mirror of AffectNet has labels.csv beside the folders;
    pictures whose label differs there are set aside.

    Args:
        root: the folder that holds the folders of the splits or of the classes, or its parent.
        classes: class names to keep, in the classifier's order; faces with other labels are counted. None keeps
            every emotion that the data set has.
        labels: classes by the folders' names, see ``label_names``. Pictures in a folder that names no class are
            set aside.
        follow_links: whether links that lead out of the root are followed.
        progress: callback that receives (splits read, splits).

    Raises:
        UserError: no root, no picture, or an unknown class or label.
    """
    folder = layout(classes, labels).find(root, follow_links)
    splits = _splits(folder)
    found = sorted({as_text(name) for part in splits.values() for name in folder.folders(part)})
    names = label_names(LAYOUT.title, found, classes, labels)
    chosen = chosen_classes(LAYOUT.title, classes, names.classes, names.unknown, folder)
    faults: list[Fault] = []
    listed = _listed(folder, faults)
    parts = with_progress(splits.items(), progress)
    rows = (row for split, part in parts for row in _rows(folder, split, part, names, listed, classes, faults))
    return build_manifest(LAYOUT, folder, rows, chosen, faults, [LIST] if listed else [])


def _rows(
    folder: Folder,
    split: str,
    part: str,
    names: Names,
    listed: dict[str, str],
    classes: Sequence[str] | None,
    faults: list[Fault],
) -> Iterator[Row | Fault]:
    """Yield a split's rows, and a fault for each folder of pictures that names no class."""
    for name in folder.folders(part):
        below = name if part == "." else f"{part}/{name}"
        label = names.get(name)  # None for a name that is not UTF-8, too
        pictures = filter(is_picture, folder.files_below(below, faults))
        if label is None:
            if number := sum(map(has_pictures_ending, pictures)):
                hint = hint_at_labels(as_text(name), classes)
                pictures_in = "1 picture" if number == 1 else f"{number:,} pictures"
                detail = f"{pictures_in} in a folder that names no class; {hint}"
                yield Fault("unknown_label", as_text(f"{below}/"), detail)
            continue
        for picture in pictures:
            said = listed.get(f"{name}/{picture}", name)
            if said != name and _named(said, names, classes) != label:
                yield Fault("labels_disagree", f"{below}/{picture}", f"{LIST} says {said[:40]}")
            else:
                yield Row(f"{below}/{picture}", label, split)


def _named(label: str, names: Names, classes: Sequence[str] | None) -> str | None:
    """Return our name for a label of labels.csv, which may differ from the folders' names."""
    return names.get(label) or known_name(label, classes or ())


def _listed(folder: Folder, faults: list[Fault]) -> dict[str, str]:
    """Return the labels that labels.csv gives, by path; none where there is no such file."""
    if not folder.is_file(LIST) or not look_at(folder.path / LIST, COLUMNS).has(*COLUMNS):
        return {}
    table = read_csv(folder.path / LIST, COLUMNS, faults)
    return dict(zip(*(table[name].to_pylist() for name in COLUMNS), strict=True))
