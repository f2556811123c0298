"""Types for numbers in signatures, with the ranges that the configuration is checked against.

Calls from Python are checked against them where pydantic's ``dataclass`` or ``validate_call`` decorates the
definition; elsewhere the function itself checks what its mathematics needs.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

_MAXIMUM = 1e6  # a larger value is a typing error: seeds apart, no sensible setting is larger

Count = Annotated[int, Field(ge=1, le=10**9)]
"""Integer from 1 on."""

Natural = Annotated[int, Field(ge=0, le=10**9)]
"""Integer from 0 on."""

AtLeastTwo = Annotated[int, Field(ge=2, le=10**9)]
Side = Annotated[int, Field(ge=8, le=4096)]
"""Side of a square picture in pixels."""

Margin = Annotated[float, Field(ge=0, le=4)]
"""Share of a face's box by which it is grown on each side."""

Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
"""Seed that torch and numpy accept."""

Finite = Annotated[float, Field(ge=-_MAXIMUM, le=_MAXIMUM, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, le=_MAXIMUM, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, le=_MAXIMUM, allow_inf_nan=False)]

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
"""Share from 0 to 1, both included."""

UpToOne = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
ShareBelowOne = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
InnerShare = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
"""Share between 0 and 1, both excluded."""

Normalise = Literal["as_is", "mean_one", "expected_one"]
"""Scale of class weights, see ``training.class_weights.normalise``."""


class Keys(BaseModel, extra="forbid", strict=True, arbitrary_types_allowed=True):
    """Base class of a group of configuration keys: its fields are their names, types and ranges."""
