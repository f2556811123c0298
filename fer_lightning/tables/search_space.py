"""What the search before a table tries: the ``tune`` of a table's file."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel, Field, FiniteFloat, field_validator, model_validator

ALL = "all"
"""Entry of ``space`` that is about every row."""

Value = bool | int | float | str
"""Value of an override."""

Interval = tuple[FiniteFloat, FiniteFloat]

HOW_TO_WRITE = "{log: [0.0001, 0.1]}, {linear: [0, 0.1]} or {choices: [a, b]}"


class Dimension(BaseModel, frozen=True, extra="forbid"):
    """Values that a key may take: an interval on one of two scales, or choices.

    Attributes:
        log: ends of an interval that is searched evenly by the logarithm; both are positive.
        linear: ends of an interval that is searched evenly.
        choices: values with equal shares.
    """

    log: Interval | None = None
    linear: Interval | None = None
    choices: list[Value] | None = Field(None, min_length=2)

    @model_validator(mode="before")
    @classmethod
    def _names_its_scale(cls, content: Any) -> Any:
        named = [name for name in cls.model_fields if isinstance(content, dict) and content.get(name) is not None]
        if len(named) != 1 and not (isinstance(content, dict) and content.keys() - cls.model_fields.keys()):
            raise ValueError(f"write {HOW_TO_WRITE}, got {content}")
        return content

    @model_validator(mode="after")
    def _has_two_ends(self) -> Dimension:
        low, high = self.log or self.linear or (0.0, 1.0)
        if low >= high:
            raise ValueError(f"the first end must be below the second, got {low:g} and {high:g}")
        if self.log and low <= 0:
            raise ValueError(f"a logarithmic interval has two positive ends, got {low:g} and {high:g}")
        return self

    @property
    def numeric(self) -> bool:
        """Return whether the values have an order, and so a lowest and a highest one."""
        return self.choices is None

    def value(self, coordinate: float) -> Value:
        """Return the value at a coordinate in [0, 1).

        It is rounded, so that it is the same on every machine and may be typed: by the logarithm to three digits,
        else to a thousandth of the interval. It stays inside.
        """
        if self.choices:
            return self.choices[int(coordinate * len(self.choices))]
        if self.log:
            low, high = self.log
            value = float(f"{low * (high / low) ** coordinate:.3g}")
        else:
            assert self.linear
            low, high = self.linear
            value = round(low + (high - low) * coordinate, 3 - math.floor(math.log10(high - low)))
        return min(max(value, low), high)


Space = dict[str, Dimension]
"""Key of a run's config, such as ``optimizer.lr``, and the values to try."""


class SearchPlan(BaseModel, frozen=True, extra="forbid"):
    """The search before a table, see tables/tune.py.

    Attributes:
        trials: number of points that every row tries; a power of two, for which a Sobol sequence is balanced.
        seeds: seeds of the trials, none of which is one of the table's.
        space: by ``all``, the dimensions of every row, the learning rate first; by loss, its rows' further ones.
    """

    trials: Literal[8, 16, 32]
    seeds: list[int] = Field(min_length=1)
    space: dict[str, Space]

    @field_validator("seeds")
    @classmethod
    def _differ(cls, seeds: list[int]) -> list[int]:
        if repeated := [seed for seed in seeds if seeds.count(seed) > 1]:
            raise ValueError(f"{repeated[0]} is there twice")
        return seeds

    @field_validator("space")
    @classmethod
    def _concerns_all(cls, space: dict[str, Space]) -> dict[str, Space]:
        if not space.get(ALL):
            raise ValueError(
                f"say under {ALL} what every row tries, e.g. {ALL}: {{optimizer.lr: {{log: [0.0003, 0.03]}}}}"
            )
        return space
