"""``fer``: one command with sub-commands. Imports nothing heavy before it must."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence

from fer_lightning import __version__
from fer_lightning.core.errors import UserError, report

Command = Callable[[list[str]], int]


def _train(words: list[str]) -> int:
    from fer_lightning.cli.train import train

    return train(words)


def _prepare(words: list[str]) -> int:
    from fer_lightning.cli.prepare import prepare

    return prepare(words)


def _doctor(words: list[str]) -> int:
    from fer_lightning.cli.doctor import doctor

    return doctor(words)


def _evaluate(words: list[str]) -> int:
    from fer_lightning.cli.evaluate import evaluate

    return evaluate(words)


def _cache(words: list[str]) -> int:
    from fer_lightning.cli.cache import cache

    return cache(words)


def _sweep(words: list[str]) -> int:
    from fer_lightning.cli.sweep import sweep

    return sweep(words)


def _table(words: list[str]) -> int:
    from fer_lightning.cli.table import table

    return table(words)


def _weights(words: list[str]) -> int:
    from fer_lightning.cli.weights import weights

    return weights(words)


COMMANDS: dict[str, tuple[Command, str]] = {
    "train": (_train, "train one run, or with -m a sweep of runs"),
    "prepare": (_prepare, "read a data set and prepare its faces, without training"),
    "doctor": (_doctor, "say what is in a data set and what is wrong with it: fer doctor FOLDER"),
    "evaluate": (_evaluate, "test a checkpoint: fer evaluate CHECKPOINT [data=... data.root=...]"),
    "cache": (_cache, "say what is kept of earlier work, or take it away: fer cache list"),
    "sweep": (_sweep, "say what has become of the runs of a folder: fer sweep status FOLDER"),
    "table": (_table, "run, plan or show a table of experiments: fer table run embedded"),
    "weights": (_weights, "make published weights fit backbone.weights: fer weights import FILE --to DIR"),
}


def usage() -> str:
    """The text of ``fer --help``: the commands, and every group with its choices."""
    from fer_lightning.config.shipped import groups, tables

    lines = ["usage: fer COMMAND ...", "", "commands:"]
    lines += [f"  {name:<10} {text}" for name, (_, text) in COMMANDS.items()]
    lines += ["", "choices of train, prepare and evaluate (group=option):"]
    lines += [f"  {group:<14} {', '.join(options)}" for group, options in groups().items()]
    lines += ["", f"tables: {', '.join(tables())}", "", "`fer COMMAND --help` says more."]
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> int:
    """Run ``fer``. Returns the exit code.

    0; 1 where a run failed or a data set would spoil a result; 2 after a user's mistake; 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if words is None else words)
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return 0
    if words[0] == "--version":
        print(f"fer_lightning {__version__}")
        return 0
    code = 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that children are ended, as after Ctrl-C
    try:
        with report() as outcome:
            if words[0] not in COMMANDS:
                raise UserError(f"no command {words[0]!r}; there is {', '.join(COMMANDS)}")
            code = COMMANDS[words[0]][0](words[1:])
    except KeyboardInterrupt:
        print("fer: stopped; the same command goes on where this one ended", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return outcome.code or code
