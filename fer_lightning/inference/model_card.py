"""The card of an exported model for people: README.md, with the metadata that Hugging Face's hub reads."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from huggingface_hub import EvalResult, ModelCardData
from scipy.stats import binomtest

from fer_lightning.core.templates import printable, render
from fer_lightning.core.versions import versions, versions_of
from fer_lightning.evaluation.metrics import METRICS, OF_CONFUSION
from fer_lightning.evaluation.posthoc import CORRECTIONS
from fer_lightning.evaluation.resampling import percentile_interval, resampled_confusions
from fer_lightning.evaluation.results import Result, Scores
from fer_lightning.inference.card import Framing
from fer_lightning.inference.model import Model

TEMPLATE = Path(__file__).with_name("model_card.md.j2")
UNDETERMINED = "undetermined"
UNKNOWN = "–"

_NOT_EVALUATED = {
    "age": "the ages",
    "sex": "the sexes",
    "skin": "the skin tones and origins",
    "head": "turned and covered faces",
}
"""Groups of people and faces by a word in the name of an attribute that results may tell them by."""


class Exported(NamedTuple):
    """What a card tells of an export besides the model.

    Attributes:
        result: the test of the model; None: none is known.
        correct: name of the correction in model.onnx; None: none.
        licence: licence of the weights as the hub abbreviates it; None: undetermined.
        parity: content of parity.json; None: there is no model.onnx.
        hashes: SHA-256 of the files by name.
    """

    result: Result | None
    correct: str | None
    licence: str | None
    parity: dict[str, Any] | None
    hashes: Mapping[str, str]


def model_card(model: Model, exported: Exported) -> str:
    """Return the Markdown of a card; its numbers are those of the result."""
    result, correct, parity = exported.result, exported.correct, exported.parity
    protocol, backbone = model.card["protocol"], model.card["backbone"]
    data = _cell(protocol.get("data", "data that is not named"))
    name = _cell(backbone.get("name") or backbone["class"])
    return render(
        TEMPLATE,
        metadata=_metadata(f"{name} on {data}", data, model, exported),
        title=f"Facial expressions: {name}, trained on {data}",
        classes=_classes(model, result),
        onnx=parity is not None,
        parity=parity and f"{parity['largest_absolute_difference']['probabilities']:.0e}",
        own=_own(model.card),
        argument=f', correct="{correct}"' if correct else "",
        quoted=f'"{correct}"',
        correct=correct and CORRECTIONS[correct].heading,
        fitted={CORRECTIONS[key].heading: _fitted(key, values) for key, values in model.corrections.items()},
        flip_averaging=model.flip_averaging,
        framing=_framing(model.framing, backbone.get("input_size")),
        data={"sentence": _about_data(data, protocol), "lines": [*_counts(result)]},
        licence=_cell(exported.licence or UNDETERMINED),
        started_from=_started_from(backbone),
        tests=[*_tests(result, correct, data)],
        groups=[*_groups(result)],
        not_evaluated=_not_evaluated(result),
        versions=_versions(model.card.get("versions", {})),
        hashes=exported.hashes,
    )


def _own(card: Mapping[str, Any]) -> str:
    """Return the argument by which ``load_model`` is given the user's own classes; empty where there are none."""
    names = [str(card[part].get("class", "fer_lightning.")) for part in ("backbone", "neck", "head")]
    own = [f"{name!r}: {name.rpartition('.')[2]}" for name in names if not name.startswith("fer_lightning.")]
    return f", own={{{', '.join(own)}}}" if own else ""


def _cell(text: Any) -> str:
    """Return a text that may stand in a cell of a table."""
    return printable(str(text)).replace("|", r"\|")


def _metadata(name: str, data: str, model: Model, exported: Exported) -> str:
    """Return the YAML at the head of the card, with the metrics of what ``model.onnx`` computes."""
    result, licence = exported.result, exported.licence
    rows = []
    if result is not None:
        split = str(result.protocol.get("test_split"))
        for key, value in _scores(result, exported.correct).metrics.items():
            heading = METRICS[key].heading if key in METRICS else key
            if math.isfinite(value):
                rows.append(
                    EvalResult(
                        task_type="image-classification",
                        task_name="facial expressions",
                        dataset_type=data,
                        dataset_name=data,
                        dataset_split=split,
                        metric_type=key,
                        metric_name=heading,
                        metric_value=value,
                    )
                )
    tags = ["facial-expression-recognition", "image-classification", *(["onnx"] if exported.parity else [])]
    content = ModelCardData(
        license=licence or "other",
        license_name=None if licence else UNDETERMINED,
        library_name="fer-lightning",
        pipeline_tag="image-classification",
        tags=tags,
        model_name=name,
        eval_results=rows or None,
    )
    return content.to_yaml().strip()


def _scores(result: Result, correct: str | None) -> Scores:
    """Return the scores of the model after a correction, or as it was trained where those are not known."""
    return (result.posthoc or {}).get(correct or "", result)


def _classes(model: Model, result: Result | None) -> list[dict[str, Any]]:
    stats, tested = model.class_stats, result.data.test if result else {}
    return [
        {"name": _cell(name), "train": f"{count:,}", "test": f"{tested[name]:,}" if name in tested else UNKNOWN}
        for name, count in zip(stats.names, stats.counts, strict=True)
    ]


def _fitted(name: str, values: Mapping[str, float]) -> str:
    return f"{CORRECTIONS[name].heading} ({', '.join(f'{key} = {value:.4g}' for key, value in values.items())})"


def _framing(framing: Framing, resized: Any) -> dict[str, Any]:
    """Return the framing in words."""
    sentence = {
        "boxes": f"The training pictures had a box around the face, which was grown by {framing.margin:.0%} of "
        "its width and height on each side.",
        "crops": "The training pictures were faces as a whole, without boxes: give one that is framed alike.",
        None: f"How the training's faces were framed is not known; a box is grown by {framing.margin:.0%} on each "
        "side.",
    }[framing.faces]
    cropped = f", of which the network sees the middle {framing.crop} x {framing.crop}"
    sides = [resized] * 2 if isinstance(resized, int) else resized
    return {
        "sentence": sentence.replace("%", " %"),
        "size": framing.size,
        "crop": framing.crop,
        "kept": "kept as JPEG, quality 95" if framing.codec == "jpeg" else "every pixel kept",
        "cropped": cropped if framing.crop < framing.size else "",
        "resized": sides and " x ".join(map(str, sides)),
    }


def _about_data(data: str, protocol: Mapping[str, Any]) -> str:
    split = protocol.get("test_split")
    tested = f", and tested on its part `{_cell(split)}`" if split else ""
    return f"The model was trained on `{data}`{tested}. Licence of the data: {UNDETERMINED}, ask its publisher."


def _counts(result: Result | None) -> Iterator[str]:
    """Yield sentences on the numbers of pictures, and on what was left out."""
    if result is None or not result.data.train:  # results of early versions tell none
        return
    data = result.data
    yield (
        f"{sum(data.train.values()):,} pictures were trained on, {data.minival:,} further ones chose the epoch, "
        f"and {sum(data.test.values()):,} were tested."
    )
    for number, what in (
        (sum(data.left_out.values()), "test rows were left out, such as those of other labels"),
        (sum(data.dropped_leaks.values()), "training pictures were dropped as copies of test pictures"),
        (data.excluded, "training pictures were left out by a list"),
        (data.set_aside, "files could not be used"),
    ):
        if number:
            yield f"{number:,} {what}."
    if data.redistributable:
        yield "The configuration of the run says that its pictures may be shown."


def _started_from(backbone: Mapping[str, Any]) -> str:
    digest = backbone.get("weights_hash")
    if digest is None:
        return "none: it started from random weights"
    return f"{UNDETERMINED}: ask their publisher (SHA-256 `{digest}`)"


def _tests(result: Result | None, correct: str | None, data: str) -> Iterator[dict[str, Any]]:
    """Yield the test of the model as it was trained, and that of its correction."""
    if result is None:
        return
    yield _test("As trained", result, result, data)
    if correct is not None and correct in (result.posthoc or {}):
        yield _test(f"With {CORRECTIONS[correct].heading}", _scores(result, correct), result, data)


def _test(title: str, scores: Scores, result: Result, data: str) -> dict[str, Any]:
    confusion = np.asarray(scores.confusion)
    names, sizes = [_cell(name) for name in result.classes], confusion.sum(1)
    return {
        "title": title,
        "sentence": f"Tested on {int(sizes.sum()):,} pictures of `{data}`, part "
        f"`{_cell(result.protocol.get('test_split'))}`, one run with one seed.",
        "metrics": [*_metric_rows(scores)],
        "calibration": _calibration(scores.metrics.get("ece", math.nan)),
        "recalls": [
            {
                "name": name,
                "value": _percent(correct / size) if size else UNKNOWN,
                "interval": _wilson(correct, size) if size else UNKNOWN,
                "images": f"{size:,}",
            }
            for name, correct, size in zip(names, confusion.diagonal().tolist(), sizes.tolist(), strict=True)
        ],
        "confusion": {
            "names": names,
            "rows": [
                [name, *(f"{count:,}" for count in row)]
                for name, row in zip(names, confusion.tolist(), strict=True)
            ],
        },
    }


def _metric_rows(scores: Scores) -> Iterator[dict[str, str]]:
    drawn = resampled_confusions(np.asarray(scores.confusion))
    for name, value in scores.metrics.items():
        metric = METRICS.get(name)
        if metric is None or not math.isfinite(value):
            continue
        show = _percent if metric.percent else _decimal
        interval = UNKNOWN
        if name in OF_CONFUSION:
            interval = _ends(*map(show, percentile_interval(metric.of_counts(drawn))))
        yield {"name": metric.heading, "value": show(value), "interval": interval}


def _calibration(ece: float) -> str:
    if not math.isfinite(ece):
        return "How well the probabilities are calibrated was not measured."
    return (
        f"Calibration: over 15 bins of confidence, the model's confidence is off by {100 * ece:.1f} points on "
        "average (ECE, the expected calibration error)."
    )


def _wilson(correct: int, size: int) -> str:
    """Return Wilson's 95 % interval of a share."""
    interval = binomtest(correct, size).proportion_ci(method="wilson")
    return _ends(_percent(interval.low), _percent(interval.high))


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _decimal(value: float) -> str:
    return f"{value:.3f}"


def _ends(low: str, high: str) -> str:
    return UNKNOWN if "nan" in low + high else f"{low.removesuffix(' %')} to {high}"


def _groups(result: Result | None) -> Iterator[dict[str, Any]]:
    for attribute, groups in (result.by_group if result else {}).items():
        rows = [
            [_cell(value), f"{scores.images:,}", _percent(scores.accuracy), _percent(scores.macro_recall)]
            for value, scores in groups.items()
        ]
        yield {"name": _cell(attribute), "rows": rows}


def _not_evaluated(result: Result | None) -> str:
    told = " ".join(result.by_group if result else ()).lower()
    groups = [people for word, people in _NOT_EVALUATED.items() if word not in told]
    return (
        f"Differences between {', '.join(groups)}; other data sets; video and faces in motion; "
        "faces as a detector frames them; pictures that were altered on purpose."
    )


def _versions(trained: Mapping[str, Any]) -> list[list[str]]:
    """Return packages with their versions in training and now."""
    now = {**versions(), **versions_of("onnx", "onnxscript", "onnxruntime")}
    return [[_cell(name), _cell(trained.get(name, UNKNOWN)), _cell(value)] for name, value in now.items()]
