"""``fer weights import FILE``: turn published face-recognition weights into a file for ``backbone.weights``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fer_lightning.core.errors import UserError
from fer_lightning.core.files import user_path
from fer_lightning.core.parser import Parser

NAME = "senet50_vggface2.safetensors"


def weights(words: Sequence[str]) -> int:
    """Run ``fer weights``; return the exit code.

    Raises:
        UserError: the user can mend it; nothing has been written.
    """
    parser = Parser(
        prog="fer weights", description="Turn published face-recognition weights into a file for backbone.weights."
    )
    parser.add_argument("action", choices=["import"])
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="VGGFace2's SE-ResNet-50 as published: senet50_*_weight.pkl or senet50_*.pth; no code in it is run",
    )
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help=f"the folder for {NAME}")
    parser.add_argument("--sha256", metavar="HEX", help="the SHA-256 that FILE must have; another file is refused")
    options = parser.parse_args(words)
    source, folder = user_path(options.file), user_path(options.to)
    if not source.exists():
        raise UserError(f"{source}: no such file; give the path of a local file")
    from fer_lightning.cli.import_weights import import_weights  # importing PyTorch takes seconds

    import_weights(source, folder / NAME, options.sha256)
    return 0
