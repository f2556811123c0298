"""Names: of columns, and of rows that no table file names: by loss, class weights and what tells them apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fer_lightning.config import identity
from fer_lightning.core.errors import UserError
from fer_lightning.evaluation.metrics import METRICS, Metric
from fer_lightning.evaluation.posthoc import CORRECTIONS

Config = dict[str, Any]


def parts(metric: str) -> tuple[str, str]:
    """The correction after training and the metric of a column; no correction: as its row is shown."""
    correction, _, name = metric.rpartition(".")
    return correction, name


def metric_of(column: str) -> Metric:
    """Return the metric of a column, whatever correction it is of."""
    return METRICS[parts(column)[1]]


def refuse_unknown_metrics(where: str, metrics: Sequence[str]) -> None:
    """Hold the columns of a table to what a result has.

    Raises:
        UserError: one is neither a metric nor ``correction.metric``.
    """
    known = {*METRICS, *(f"{correction}.{metric}" for correction in CORRECTIONS for metric in METRICS)}
    if unknown := [metric for metric in metrics if metric not in known]:
        raise UserError(
            f"{where}: no such metric: {', '.join(unknown)}; there are {', '.join(METRICS)}, and each after "
            f"{', '.join(CORRECTIONS)}, e.g. {next(iter(CORRECTIONS))}.macro_recall"
        )


def is_plain(config: Config) -> bool:
    """Softmax on one label an image, without class weights, each image drawn once an epoch: the baseline."""
    choices: dict[str, str] = config["choices"]
    return (
        choices.get("loss") == "softmax"
        and choices.get("class_weights") == "none"
        and choices.get("sampler", "shuffle") == "shuffle"
        and not config.get("data", {}).get("soft_labels", False)
    )


def label(config: Config) -> str:
    """``softmax``, or with class weights ``softmax x min_over_count``."""
    loss, weights = config["choices"]["loss"], config["choices"]["class_weights"]
    return loss if weights == "none" else f"{loss} x {weights}"


def labels(configs: Sequence[Config]) -> list[str]:
    """A label for each config; those that share one get the keys they differ in appended."""
    named: dict[str, list[int]] = {}
    for place, config in enumerate(configs):
        named.setdefault(label(config), []).append(place)
    found = {}
    for name, places in named.items():
        for place, words in zip(places, _distinct([configs[place] for place in places]), strict=True):
            found[place] = ", ".join([name, *words])
    return [found[place] for place in range(len(configs))]


def _distinct(group: Sequence[Config]) -> list[list[str]]:
    """For each config, ``key=value`` for every key in which they differ; an option stands for its own keys."""
    flat = [_flatten(identity.identity({k: v for k, v in c.items() if k != "seed"}, {})["config"]) for c in group]
    keys = dict.fromkeys(key for values in flat for key in values)
    columns = {key: [values.get(key) for values in flat] for key in keys}
    differing = {key: column for key, column in columns.items() if any(value != column[0] for value in column)}
    chosen = {key.removeprefix("choices.") for key in differing if key.startswith("choices.")}
    words: list[list[str]] = [[] for _ in group]
    for key, column in differing.items():
        name = key.removeprefix("choices.")
        parent, _, leaf = key.rpartition(".")
        repeated = differing.get(f"{parent.rpartition('.')[0]}.{leaf}") == column
        if name != key or not (key.split(".")[0] in chosen or repeated):
            for own, value in zip(words, column, strict=True):
                own.append(f"{name}={value}")
    return words


def _flatten(value: Config, prefix: str = "") -> Config:
    flat: Config = {}
    for key, item in value.items():
        flat |= _flatten(item, f"{prefix}{key}.") if isinstance(item, dict) else {f"{prefix}{key}": item}
    return flat
