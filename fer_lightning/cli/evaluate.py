"""``fer evaluate CHECKPOINT``: test a trained model on its own data set or on others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from fer_lightning.config.overrides import RUN_DIR, apart, refuse
from fer_lightning.core.errors import UserError
from fer_lightning.core.files import content_hash, require_checkpoint, user_path
from fer_lightning.core.parser import Parser
from fer_lightning.sweeps.hydra_launchers import run_folder

EXAMPLE = '--on "data=rafdb data.root=/data/RAF-DB"'

_WORD = re.compile(r"""(?:[^\s'"]|'[^']*'|"[^"]*")+""")


def evaluate(words: Sequence[str]) -> int:
    """Run ``fer evaluate``; return the exit code.

    Raises:
        UserError: the user can mend it.
    """
    options = _parser().parse_intermixed_args(words)
    others, overrides = _apart(options.words)
    checkpoints = [user_path(options.checkpoint), *others]
    overrides, of_hydra = apart(overrides)
    refuse(of_hydra, lambda key: key != RUN_DIR, "fer evaluate", "hydra.run.dir=FOLDER")
    sets = [words_of_set(text) for text in options.on]
    if sets:
        _refuse_outside(overrides)
    directory = run_folder([], of_hydra)
    require_checkpoint(checkpoints[0])
    from fer_lightning.run import evaluate_checkpoint  # importing PyTorch takes seconds

    tests = [[*overrides, *words] for words in sets] or [overrides]
    choices = {"config_dir": options.config_dir, "drop_absent": options.drop_absent}
    if not sets and len(checkpoints) == 1:
        evaluate_checkpoint.evaluate(checkpoints, tests, directory=directory, **choices)
        return 0
    folder = directory or evaluate_checkpoint.RESULTS / _table_name(checkpoints, tests, drop=options.drop_absent)
    tested = evaluate_checkpoint.evaluate(checkpoints, tests, base=folder, **choices)
    from fer_lightning.tables import compare_sets

    rows = compare_sets.set_rows([test.result for test in tested])
    print(compare_sets.to_text(rows))
    for path in compare_sets.write(rows, folder):
        print(path)
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="fer evaluate",
        description="Test checkpoints, on the data they were trained with or on other sets. Classes are matched "
        "by name: pictures of classes that the model lacks are left out, and averages are over those of the set.",
    )
    parser.add_argument("checkpoint", help="a run's best.ckpt")
    parser.add_argument(
        "words",
        nargs="*",
        help="further checkpoints; overrides of data and trainer, among them data.test_split=all for a whole set; "
        "and hydra.run.dir=FOLDER",
    )
    parser.add_argument(
        "--on",
        action="append",
        default=[],
        metavar="SET",
        help=f"a set to test on, in quotes, as often as there are sets; prints one table: {EXAMPLE}",
    )
    parser.add_argument(
        "--drop-absent",
        action="store_true",
        help="drop the probabilities of classes that the set has no pictures of, and renormalise the others",
    )
    parser.add_argument("--config-dir", help="a folder with further options; code of your own lies beside it")
    return parser


def _apart(words: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Return the paths of further checkpoints, and the overrides.

    Raises:
        UserError: a word is neither.
    """
    paths: list[Path] = []
    overrides: list[str] = []
    for word in words:
        path = user_path(word)
        if path.is_file():
            paths.append(path)
        elif "=" in word:
            overrides.append(word)
        else:
            raise UserError(f"{word}: no such file; an override is written group=option or key=value")
    return paths, overrides


def words_of_set(text: str) -> list[str]:
    """Return the overrides in the value of ``--on``; quotes inside keep a value with spaces together.

    Raises:
        UserError: it has no words, an unfinished quote, or a word that is not about data or trainer.
    """
    words = [match[0] for match in _WORD.finditer(text)]
    words = [re.sub(r"""^(["'])([^"']*)\1$""", r"\2", word) for word in words]
    if _WORD.sub("", text).strip():
        raise UserError(f"--on {text}: a quote is not closed")
    if not words:
        raise UserError(f"--on is empty; write {EXAMPLE}")
    for word in words:
        key, equals, _ = word.partition("=")
        if not equals:
            raise UserError(f"--on {text}: {word} is no override; write {EXAMPLE}")
        if _group(key) not in ("data", "trainer"):
            raise UserError(f"--on {text}: {key} cannot be set here; only data and trainer can")
    return words


def _group(key: str) -> str:
    return re.split(r"[.@/]", key.lstrip("+~"))[0]


def _refuse_outside(overrides: Sequence[str]) -> None:
    """Refuse overrides of data beside ``--on``, as when its quotes were forgotten."""
    for word in overrides:
        if _group(word.partition("=")[0]) == "data":
            raise UserError(
                f"{word}: it stands outside --on; put all words about a set in the quotes of its --on: {EXAMPLE}"
            )


def _table_name(checkpoints: Sequence[Path], tests: Sequence[Sequence[str]], *, drop: bool) -> str:
    paths = [str(path.resolve()) for path in checkpoints]
    models = checkpoints[0].resolve().parent.name if len(paths) == 1 else f"{len(paths)}-models"
    return f"{models}-on-{len(tests)}-sets-{content_hash([paths, tests, drop])[:8]}"
