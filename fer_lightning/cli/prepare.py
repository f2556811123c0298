"""``fer prepare``: read a data set and prepare its faces, without training."""

from __future__ import annotations

from collections.abc import Sequence

from fer_lightning.config.compose import compose
from fer_lightning.config.overrides import apart, refuse
from fer_lightning.core.parser import Parser
from fer_lightning.run import launch


def prepare(words: Sequence[str]) -> int:
    """Run ``fer prepare``; return the exit code.

    Raises:
        UserError: an override does not fit the configuration.
    """
    parser = Parser(prog="fer prepare", description="Read a data set and prepare its faces, without training.")
    parser.add_argument("overrides", nargs="*", help="as for `fer train`, e.g. data=affectnet data.root=...")
    parser.add_argument("--config-dir", help="a folder with further options; code of your own lies beside it")
    options = parser.parse_intermixed_args(words)
    overrides, of_hydra = apart(options.overrides)
    refuse(of_hydra, lambda _: True, "fer prepare", "data.store=FOLDER")
    compose(overrides, options.config_dir)
    config_dir = ["--config-dir", options.config_dir] if options.config_dir else []
    return launch.code_of(lambda: launch.child(["--faces", *config_dir, *overrides]))
