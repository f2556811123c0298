"""``fer weights``: look into published weights, and turn them into files for ``backbone.weights``."""

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
    options = _parser().parse_args(words)
    source = user_path(options.file)
    if not source.exists():
        raise UserError(f"{source}: no such file; give the path of a local file")
    # importing PyTorch takes seconds
    if options.action == "inspect":
        from fer_lightning.cli.inspect_weights import inspect_weights

        inspect_weights(source, options.backbone)
    elif options.action == "extract":
        from fer_lightning.cli.extract_weights import extract_weights

        extract_weights(source, options.part, user_path(options.to))
    else:
        from fer_lightning.cli.import_weights import import_weights

        import_weights(source, user_path(options.to) / NAME, options.sha256)
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="fer weights",
        description="Look into files of published weights, and turn them into files for backbone.weights. "
        "No code in a file is run.",
    )
    actions = parser.add_subparsers(dest="action", required=True)
    to_inspect = actions.add_parser("inspect", help="print what FILE holds, and which backbones it fits")
    to_inspect.add_argument(
        "--backbone",
        action="append",
        default=[],
        metavar="NAME",
        help="name of a timm network that FILE is compared with, besides the options of backbone; may be repeated",
    )
    to_import = actions.add_parser("import", help="convert VGGFace2's SE-ResNet-50 as published")
    to_import.add_argument("--to", type=Path, required=True, metavar="DIR", help=f"the folder for {NAME}")
    to_import.add_argument(
        "--sha256", metavar="HEX", help="the SHA-256 that FILE must have; another file is refused"
    )
    to_extract = actions.add_parser("extract", help="write one of several parts of FILE to a file of its own")
    to_extract.add_argument(
        "--part", required=True, metavar="NAME", help="keys and prefix of the part, dotted, such as ema.module"
    )
    to_extract.add_argument("--to", type=Path, required=True, metavar="NEW", help="the new safetensors file")
    for action in (to_inspect, to_import, to_extract):
        action.add_argument("file", type=Path, metavar="FILE", help="file of weights as it is published")
    return parser
