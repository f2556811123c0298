"""A model as one ONNX file: from uint8 crops to class probabilities, with all that they need inside."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fer_lightning.core.errors import UserError
from fer_lightning.core.versions import versions
from fer_lightning.inference.checkpoint import VERSION, weights_hash
from fer_lightning.inference.model import Model

ONNX = "model.onnx"
OPSET = 20
CROPS, OUTPUTS = "crops", ("probabilities", "logits")
"""Names of the input, uint8 RGB (N, 3, S, S), and of the outputs, both (N, C)."""

_NEEDED = ("onnx", "onnxscript", "onnxruntime")


class _Graph(nn.Module):
    """Computes what the ONNX file does: probabilities and logits (N, C), corrected.

    Args:
        model: the model; a copy of it is made.
        correct: name of a correction; None: the model as it was trained.
    """

    factor: Tensor
    shift: Tensor

    def __init__(self, model: Model, correct: str | None) -> None:
        super().__init__()
        self.model = deepcopy(model)
        for module in self.model.network.modules():
            if hasattr(module, "fused_attn"):  # timm's fused attention with a bias is not exported
                setattr(module, "fused_attn", False)  # noqa: B010  (mypy takes a module's attributes for tensors)
        factor, shift = _affine(model, correct)
        self.register_buffer("factor", factor)
        self.register_buffer("shift", shift)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.model.averaged(crops) * self.factor + self.shift
        return logits.softmax(1), logits


def _affine(model: Model, correct: str | None) -> tuple[Tensor, Tensor]:
    """Return factor and shift (C,) of a correction: each of them is affine in every logit."""
    probes = torch.stack([torch.zeros(len(model.classes)), torch.ones(len(model.classes))]).double()
    at_zero, at_one = probes if correct is None else model.correct(probes, correct)
    return (at_one - at_zero).float(), at_zero.float()


def require_packages() -> None:
    """Refuse to write an ONNX file where a package for it is missing.

    Raises:
        UserError: it is.
    """
    if missing := [package for package in _NEEDED if find_spec(package) is None]:
        raise UserError(
            f"{ONNX} needs {', '.join(missing)}: pip install 'fer-lightning[onnx]'; --no-onnx writes the rest"
        )


def write_onnx(model: Model, path: Path, correct: str | None = None) -> None:
    """Write a model to an ONNX file.

    Normalisation, resizing to the network's own size, flip averaging, the correction and the softmax are inside;
    cutting the face out is not. Its metadata hold the classes, the framing and the versions.

    Args:
        model: the model, on the CPU.
        path: path of the file.
        correct: name of a correction; None: the model as it was trained.

    Raises:
        UserError: a package is missing, there is no such correction, or the network cannot be exported.
    """
    require_packages()
    side = model.framing.crop
    with torch.no_grad():
        graph = _Graph(model, correct).eval()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                graph,
                (torch.zeros(2, 3, side, side, dtype=torch.uint8),),
                dynamo=True,
                opset_version=OPSET,
                input_names=[CROPS],
                output_names=OUTPUTS,
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                external_data=False,
                verbose=False,
            )
        content = _content(program, _metadata(model, correct))
    except Exception as error:  # of torch, onnxscript and onnx, of all types
        said = f"the network cannot be exported to ONNX: {_reason(error)}"
        raise UserError(f"{said}; --no-onnx writes the rest") from error
    path.write_bytes(content)


def _metadata(model: Model, correct: str | None) -> dict[str, str]:
    """Return what stands in the file's metadata: texts by name, of which lists and objects are JSON."""
    return {
        "format": str(VERSION),
        "classes": json.dumps(model.classes),
        "framing": model.framing.model_dump_json(),
        "flip_averaging": json.dumps(model.flip_averaging),
        "correction": correct or "none",
        "weights": weights_hash(model.network.state_dict()),
        "versions": json.dumps(versions()),
    }


def _content(program: Any, metadata: dict[str, str]) -> bytes:
    """Return the bytes of an exported program, with the metadata of the file in place of that of its nodes."""
    import onnx

    proto = program.model_proto
    _clear(proto.graph)
    for function in proto.functions:
        _clear(function)
    onnx.helper.set_model_props(proto, metadata)
    content: bytes = proto.SerializeToString()
    onnx.checker.check_model(content)
    return content


def _clear(graph: Any) -> None:
    """Remove descriptions and metadata of a graph's parts: they are stack traces, with paths of this machine."""
    parts: Iterable[Any] = [graph, *graph.node, *graph.value_info]
    for name in ("input", "output", "initializer"):
        parts = [*parts, *(part for part in getattr(graph, name, ()) if not isinstance(part, str))]
    for part in parts:
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                _clear(inner)


def _reason(error: BaseException) -> str:
    """Return the first line of the exception that an export failed of, without the exporter's advice around it."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[0].split())[:200]}" if lines else type(error).__name__
