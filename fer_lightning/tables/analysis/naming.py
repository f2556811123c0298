"""Names of columns, and of rows without a table file: loss, class weights and the keys in which they differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fer_lightning.config import identity
from fer_lightning.core.errors import UserError
from fer_lightning.evaluation.metrics import METRICS, Metric
from fer_lightning.evaluation.posthoc import CORRECTIONS

Config = dict[str, Any]


def parts(metric: str) -> tuple[str, str]:
    """Return the correction and the metric of a column; the correction is empty for a plain metric."""
    correction, _, name = metric.rpartition(".")
    return correction, name


def metric_of(column: str) -> Metric:
    """Return the metric of a column, with or without a correction."""
    return METRICS[parts(column)[1]]


def refuse_unknown_metrics(where: str, metrics: Sequence[str]) -> None:
    """Refuse columns that results do not have.

    Args:
        where: file that names them, for the message.
        metrics: names of the columns.

    Raises:
        UserError: a column is neither a metric nor ``correction.metric``.
    """
    known = {*METRICS, *(f"{correction}.{metric}" for correction in CORRECTIONS for metric in METRICS)}
    if unknown := [metric for metric in metrics if metric not in known]:
        raise UserError(
            f"{where}: no such metric: {', '.join(unknown)}; there are {', '.join(METRICS)}, and each after "
            f"{', '.join(CORRECTIONS)}, e.g. {next(iter(CORRECTIONS))}.macro_recall"
        )


def is_plain(config: Config) -> bool:
    """Return whether a config is a baseline: softmax, one label per image, no class weights, plain sampling."""
    choices: dict[str, str] = config["choices"]
    return (
        choices.get("loss") == "softmax"
        and choices.get("class_weights") == "none"
        and choices.get("sampler", "shuffle") == "shuffle"
        and not config.get("data", {}).get("soft_labels", False)
    )


def label(config: Config) -> str:
    """Return a row's label: ``softmax``, or with class weights ``softmax x min_over_count``."""
    loss, weights = config["choices"]["loss"], config["choices"]["class_weights"]
    return loss if weights == "none" else f"{loss} x {weights}"


def labels(configs: Sequence[Config]) -> list[str]:
    """Return a label for each config; to equal labels the keys are appended in which the configs differ."""
    groups: dict[str, list[int]] = {}
    for index, config in enumerate(configs):
        groups.setdefault(label(config), []).append(index)
    unique = {}
    for name, indices in groups.items():
        for index, words in zip(indices, _distinct([configs[index] for index in indices]), strict=True):
            unique[index] = ", ".join([name, *words])
    return [unique[index] for index in range(len(configs))]


def _distinct(group: Sequence[Config]) -> list[list[str]]:
    """Return by config ``key=value`` of every key in which they differ; an option stands for its own keys."""
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
            for config_words, value in zip(words, column, strict=True):
                config_words.append(f"{name}={value}")
    return words


def _flatten(value: Config, prefix: str = "") -> Config:
    flat: Config = {}
    for key, item in value.items():
        flat |= _flatten(item, f"{prefix}{key}.") if isinstance(item, dict) else {f"{prefix}{key}": item}
    return flat
