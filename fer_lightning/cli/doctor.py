"""``fer doctor ROOT``: read a data set without training, and report what is in it and what is wrong."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from fer_lightning.core.errors import UserError
from fer_lightning.core.files import write_atomic
from fer_lightning.core.parser import Parser


def doctor(words: Sequence[str]) -> int:
    """Run ``fer doctor``.

    Returns:
        The exit code: 1 if something in the data set would spoil a result.

    Raises:
        UserError: the user can mend it.
    """
    options = _parser().parse_intermixed_args(words)
    overrides = options.overrides
    if other := [word for word in overrides if not word.lstrip("+~").startswith(("data=", "data."))]:
        raise UserError(
            f"fer doctor: {other[0]} is not about data; give ROOT first, then data=... and data.key=..."
        )
    # imported here, since they cost more than --help may
    from fer_lightning.config.compose import compose
    from fer_lightning.config.instantiate import is_own
    from fer_lightning.core.progress import Line
    from fer_lightning.data import dataset
    from fer_lightning.data.store.crop import Recipe
    from fer_lightning.data.unread import unread
    from fer_lightning.doctor.examination import examine
    from fer_lightning.doctor.page import SIDE, page
    from fer_lightning.doctor.report import report

    if not any(word.startswith("data=") for word in overrides):
        overrides = ["data=auto", *overrides]
    node = compose(overrides, options.config_dir)["data"] | {"root": options.root}
    if not is_own(node) and not any(word.startswith("data.classes=") for word in overrides):
        node["classes"] = None  # all emotions that the data set has
    manifest = dataset.read(node, Line("annotations"))
    try:
        recipe = Recipe(size=SIDE, margin=node["margin"], codec="jpeg")  # to compare and show faces
    except (TypeError, ValueError) as error:
        raise UserError(f"data.margin={node['margin']}: give a share of the box, such as 0.3") from error
    examination = examine(manifest, recipe.margin, options.processes, Line)
    findings = report(manifest, examination, {} if node.get("automatic") else None, unread(manifest))
    print(findings.to_text())
    if options.json:
        _write(options.json, findings.to_json())
    if options.exclude:
        _write(options.exclude, json.dumps(examination.leaking(), indent=0) + "\n")
    if options.html:
        _write(options.html, page(findings, manifest, examination, recipe))
    return int(findings.spoils)


def _parser() -> Parser:
    parser = Parser(
        prog="fer doctor",
        description="Read a data set without training: what is in it, and what is wrong with it.",
        epilog="Every picture is opened; nothing in the data set's folder is changed. Links out of it "
        "are followed with data.follow_links=true only. "
        "The exit code is 1 where something would spoil a result.",
    )
    parser.add_argument("root", metavar="ROOT", help="the folder of the data set")
    parser.add_argument(
        "overrides", nargs="*", help="data=OPTION where data=auto is not right, data.classes=[...]"
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with pictures, in one file")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was found")
    parser.add_argument(
        "--exclude", type=Path, metavar="FILE", help="list the training rows that are copies of held-out ones"
    )
    parser.add_argument("--processes", type=_positive, help="how many open pictures (as many as there are cores)")
    parser.add_argument("--config-dir", help="a folder with further options")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("give a whole number from 1 on")
    return int(text)


def _write(path: Path, text: str) -> None:
    try:
        write_atomic(path, text)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
    print(path)
