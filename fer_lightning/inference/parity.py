"""Comparison of an ONNX file with the model that it was made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fer_lightning.core.errors import UserError
from fer_lightning.core.versions import versions_of
from fer_lightning.inference.model import Model
from fer_lightning.inference.onnx_file import CROPS, OUTPUTS

LIMIT = 1e-4
"""Largest difference of a probability with which a file is still the same model."""

BATCHES = (1, 7, 33)


def compare(model: Model, path: Path, correct: str | None = None) -> dict[str, Any]:
    """Return how far the probabilities of an ONNX file are from the model's, on random crops.

    Args:
        model: the model, on the CPU.
        path: path of the ONNX file.
        correct: name of the correction that was put into it.

    Returns:
        The largest absolute differences, and what was compared, as plain values.

    Raises:
        UserError: the file cannot be run, or a probability differs by more than ``LIMIT``.
    """
    session = _session(path)
    differences = []
    for batch in BATCHES:
        crops = random_crops(batch, model.framing.crop)
        try:
            found = session.run(list(OUTPUTS), {CROPS: crops.numpy()})
        except Exception as error:  # onnxruntime's, of many types
            raise UserError(f"ONNX Runtime cannot run the network on {batch} crops: {_line(error)}") from error
        expected = _expected(model, crops, correct)
        differences.append([_largest(one, other) for one, other in zip(found, expected, strict=True)])
    by_output = dict(zip(OUTPUTS, np.max(differences, axis=0).tolist(), strict=True))
    if not by_output["probabilities"] <= LIMIT:  # NaN is refused, too
        raise UserError(
            f"model.onnx would be another model: its probabilities differ from PyTorch's by up to "
            f"{by_output['probabilities']:.2g}, and {LIMIT:g} is allowed; --no-onnx writes the rest"
        )
    return {
        "compared": "ONNX Runtime with PyTorch, both on the CPU",
        "crops": "random: of each batch half are noise, half are smooth",
        "batches": [*BATCHES],
        "limit": LIMIT,
        "largest_absolute_difference": by_output,
        "versions": versions_of("torch", "onnx", "onnxscript", "onnxruntime"),
    }


def random_crops(number: int, side: int) -> Tensor:
    """Return uint8 crops (N, 3, S, S), every other one smooth as pictures are."""
    generator = torch.Generator().manual_seed(number)
    noise = torch.rand((number, 3, side, side), generator=generator)
    coarse = torch.rand((number, 3, 4, 4), generator=generator)
    noise[1::2] = F.interpolate(coarse[1::2], (side, side), mode="bilinear")
    return (256 * noise).clamp(0, 255).to(torch.uint8)


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's, of many types
        raise UserError(f"ONNX Runtime cannot load the exported network: {_line(error)}") from error


def _expected(model: Model, crops: Tensor, correct: str | None) -> tuple[Tensor, Tensor]:
    """Return the probabilities and logits (N, C) with which the model predicts."""
    logits = model.final_logits(crops, correct)
    return logits.softmax(1), logits


def _largest(found: Any, expected: Tensor) -> float:
    return float(np.abs(found - expected.numpy()).max())


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
