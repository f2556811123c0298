"""Export of a run's model with the numbers of its test."""

from __future__ import annotations

from pathlib import Path

import torch

from fer_lightning.core.errors import UserError
from fer_lightning.core.files import content_hash
from fer_lightning.data import dataset
from fer_lightning.evaluation import results
from fer_lightning.inference.detectors import load_detector
from fer_lightning.inference.export import export, require_place
from fer_lightning.inference.framing import fit_framing, training_faces, with_detector
from fer_lightning.inference.load_model import load_model
from fer_lightning.inference.model import Model
from fer_lightning.inference.onnx_file import require_packages
from fer_lightning.run.own_classes import own_classes_of

FITTED_OVER = 1000
"""Training pictures that a detector's boxes are compared with."""


def export_checkpoint(
    path: Path,
    folder: Path,
    *,
    correct: str | None = None,
    licence: str | None = None,
    onnx: bool = True,
    config_dir: str | None = None,
    fit_framing_of: str | None = None,
) -> None:
    """Write the model of a checkpoint to a folder, and print what was written.

    Args:
        path: path of a run's best.ckpt, or of its folder; result.json beside it has the numbers for the card.
        folder: see ``export``.
        correct: see ``export``.
        licence: see ``export``.
        onnx: see ``export``.
        config_dir: folder with further options, with the user's own code.
        fit_framing_of: detector whose boxes are compared with those of the training pictures; None: none.

    Raises:
        UserError: the user can mend it; nothing has been written.
    """
    require_place(folder)
    if onnx:
        require_packages()
    model = load_model(path, own_classes_of([path], config_dir))
    if correct is not None:
        model.correct(torch.zeros(1, len(model.classes)), correct)  # refuses one that the model does not have
    if fit_framing_of is not None:
        _fit_framing(model, fit_framing_of)
    result = _result(path if path.is_dir() else path.parent, model)
    parity = export(model, folder, result=result, correct=correct, licence=licence, onnx=onnx)
    print(folder)
    for file in sorted(folder.iterdir()):
        print(f"  {file.name:<18} {file.stat().st_size:>12,} bytes")
    if parity:
        difference = parity["largest_absolute_difference"]["probabilities"]
        print(f"  probabilities of model.onnx within {difference:.1e} of PyTorch's")
    if result is None:
        print("  no result.json beside the checkpoint: the card says that no test is known")
    if licence is None:
        print("  the card says that the licence is undetermined; --license says it")


def _fit_framing(model: Model, name: str) -> None:
    """Fit how a detector's boxes are brought to the model's framing, over its training pictures."""
    detector = load_detector(name)
    if "config" not in model.card:
        raise UserError("--fit-framing: needs a run's checkpoint, which knows its training pictures")
    fit = fit_framing(training_faces(dataset.manifest(model.card["config"]), FITTED_OVER), detector)
    model.framing = with_detector(model.framing, detector.name, fit.fitted)
    low, high = fit.quartiles["factor"]
    print(
        f"{detector.name} finds {fit.fitted.faces} of {fit.pictures} training faces; the framing's side is "
        f"{fit.fitted.factor:.2f} times the root of its boxes' area (half of them {low:.2f} to {high:.2f})"
    )


def _result(folder: Path, model: Model) -> results.Result | None:
    """Return the test of a model in the folder of its run; None: there is none.

    Raises:
        UserError: the result is of another run.
    """
    result = results.read(folder)
    if result is None:
        return None
    if content_hash(result.config) != content_hash(model.card.get("config")):
        raise UserError(
            f"{folder / results.RESULT} is of another run than the checkpoint beside it; give the checkpoint in "
            "the folder of its own run, or alone in a folder"
        )
    return result
