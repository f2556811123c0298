"""The faces that a trained model is tested on: classes of a data set and of a model are matched by their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fer_lightning.core.errors import UserError
from fer_lightning.data import dataset
from fer_lightning.data.dataset import Progress
from fer_lightning.data.manifest import Manifest
from fer_lightning.data.split import ALL, only_test

Config = dict[str, Any]


def faces_to_test(config: Config, classes: Sequence[str], progress: Progress | None = None) -> Manifest:
    """Return the faces of a data set, labelled with the classes of a model.

    A set that could be trained on with these classes keeps its training rows: results on it are then comparable
    with those of models that are trained on it. Of any other set there are the test rows only, and a class of the
    model may have none.

    Args:
        config: config of the evaluation; its data.classes may name some of the model's classes.
        classes: class names of the model, in the order of its outputs.
        progress: callback of the reader.

    Raises:
        UserError: the set has none of the classes, data.classes names one that the model lacks, or the set cannot
            be read.
    """
    faces = _read(config, classes, progress)
    counts = [faces.counts(split) for split in faces.splits]
    to_train = faces.to_train and faces.classes == tuple(classes)
    return faces if to_train and all(map(all, (split.values() for split in counts))) else only_test(faces, classes)


def _read(config: Config, classes: Sequence[str], progress: Progress | None) -> Manifest:
    """Return the manifest with those classes of the model that the set has."""
    node = config["data"]
    if unknown := [name for name in node["classes"] if name not in classes]:
        raise UserError(f"data.classes: the model has no class {unknown[0]!r}; it has {', '.join(classes)}")
    wanted = [name for name in classes if name in node["classes"]]
    try:
        return dataset.manifest({**config, "data": {**node, "classes": wanted}}, progress)
    except UserError as error:  # of a missing class, if it is not one of all else
        try:
            found = dataset.read({**node, "classes": None}, progress).classes
        except UserError:
            raise error from None
        common = [name for name in wanted if name in found]
        if len(common) == len(wanted):
            raise
        if not common:
            raise UserError(
                f"data={config['choices']['data']}: {node['root']} has none of the classes {', '.join(wanted)}; "
                f"it has {', '.join(found) or 'no emotion'}"
            ) from error
    return dataset.manifest({**config, "data": {**node, "classes": common}}, progress)


def notices(
    counts: Mapping[str, int], faces: Manifest, trained_on: Mapping[str, Any], *, dropped: bool
) -> list[str]:
    """Return what a reader of the result must know of the test set.

    Args:
        counts: test pictures by class of the model.
        faces: manifest of the set.
        trained_on: protocol of the model's training.
        dropped: whether the outputs for classes without pictures are dropped.
    """
    absent = [name for name, count in counts.items() if not count]
    compared = [name for name in counts if name not in absent]
    told = []
    if absent:
        then = (
            "left out of the probabilities" if dropped else "a mistake where predicted, unless with --drop-absent"
        )
        told.append(
            f"compared on {len(compared)} of the model's {len(counts)} classes: {', '.join(compared)}; of no test "
            f"picture, and {then}: {', '.join(absent)}"
        )
    same_set = trained_on["data"] == faces.name and trained_on["manifest"] != faces.hash()
    if same_set and faces.tested_on and (faces.tested_on == ALL or faces.tested_on.endswith("%")):
        told.append(
            f"the model was trained on {faces.name}: if it is this set, test pictures are among those that the "
            "model has seen"
        )
    return told
