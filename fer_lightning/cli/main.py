"""``fer``: one command with sub-commands, each of which is imported only when it is called."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module

from fer_lightning import __version__
from fer_lightning.config.shipped import groups, tables
from fer_lightning.core.errors import UserError, report
from fer_lightning.core.processes import FROM_CLUSTERS

COMMANDS = {
    "train": "train one run, or with -m a sweep of runs",
    "prepare": "read a data set and prepare its faces, without training",
    "doctor": "report what is in a data set and what is wrong with it: fer doctor FOLDER",
    "predict": "predict the faces in pictures and videos: fer predict MODEL... SOURCE...",
    "evaluate": "test a checkpoint: fer evaluate CHECKPOINT [data=... data.root=...]",
    "export": "write a trained model as files for others: fer export CHECKPOINT --to DIR",
    "cache": "list or clear what is kept of earlier work: fer cache list",
    "sweep": "show the state of each run in a folder, or cancel its jobs: fer sweep status FOLDER",
    "table": "run, plan or show a table of experiments: fer table run embedded",
    "weights": "show and convert published weights for backbone.weights: fer weights inspect FILE",
}
"""Every command with its help. The command X is the function ``X`` of ``fer_lightning/cli/X.py``."""


def usage() -> str:
    """Return the text of ``fer --help``: the commands, and every group with its choices."""
    lines = ["usage: fer COMMAND ...", "", "commands:"]
    lines += [f"  {name:<10} {text}" for name, text in COMMANDS.items()]
    lines += ["", "choices of train, prepare and evaluate (group=option):"]
    lines += [f"  {group:<14} {', '.join(options)}" for group, options in groups().items()]
    lines += ["", f"tables: {', '.join(tables())}", "", "`fer COMMAND --help` says more."]
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> int:
    """Run ``fer``.

    Args:
        words: the command line; that of this process by default.

    Returns:
        The exit code: 0; 1 if a run failed or a data set would spoil a result; 2 after a user's mistake; 74 if a
        run was stopped, e.g. by a full disk; 75 if another process is training it; 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if words is None else words)
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return 0
    if words[0] == "--version":
        print(f"fer_lightning {__version__}")
        return 0
    code = 0
    for number in (signal.SIGTERM, *FROM_CLUSTERS):
        signal.signal(number, lambda number, _: sys.exit(128 + number))  # ends child processes too, as Ctrl-C does
    try:
        with report() as outcome:
            if words[0] not in COMMANDS:
                raise UserError(f"no command {words[0]!r}; the commands are {', '.join(COMMANDS)}")
            name = words[0]
            code = getattr(import_module(f"fer_lightning.cli.{name}"), name)(words[1:])
    except KeyboardInterrupt:
        print("fer: stopped; run the same command again to continue", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return outcome.code or code
