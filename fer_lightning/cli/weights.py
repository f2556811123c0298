"""``fer weights import``: published face-recognition weights -> a file that ``backbone.weights`` takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fer_lightning.core.errors import UserError
from fer_lightning.core.parser import Parser

NAME = "senet50_vggface2.safetensors"


def weights(words: Sequence[str]) -> int:
    """Run ``fer weights`` with these words. Returns the exit code.

    Raises:
        UserError: something the user can mend; nothing has been written.
    """
    options = _parser().parse_args(words)
    source, folder = options.file.expanduser(), options.to.expanduser()
    if not source.exists():
        raise UserError(f"{source}: no such file; give the path of a local file")
    from fer_lightning.cli.import_weights import import_weights  # PyTorch takes seconds

    import_weights(source, folder / NAME, options.sha256)
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="fer weights", description="Turn published face-recognition weights into a file for backbone.weights."
    )
    parser.add_argument("action", choices=["import"])
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="VGGFace2's SE-ResNet-50 as published: senet50_*_weight.pkl or senet50_*.pth; nothing in it is run",
    )
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help=f"the folder for {NAME}")
    parser.add_argument("--sha256", metavar="HEX", help="what FILE must be; nothing is read from another one")
    return parser
