"""Ranges of numbers, written where a signature takes them; the configuration is held against them.

Calls from Python are held against them where pydantic's ``dataclass`` or ``validate_call`` stands above; elsewhere
the function itself checks what the mathematics needs.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

_MOST = 1e6  # nothing that is configured is larger, but for seeds: what is comes from a slip of the finger

Count = Annotated[int, Field(ge=1, le=10**9)]
"""How many: 1, 2, ..."""

Natural = Annotated[int, Field(ge=0, le=10**9)]
"""How many, and none is a choice: 0, 1, ..."""

AtLeastTwo = Annotated[int, Field(ge=2, le=10**9)]
Side = Annotated[int, Field(ge=8, le=4096)]
"""Of a square picture, in pixels."""

Margin = Annotated[float, Field(ge=0, le=4)]
"""Share of a face's box that it is grown by on each side."""

Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
"""What torch and numpy take as a seed."""

Finite = Annotated[float, Field(ge=-_MOST, le=_MOST, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, le=_MOST, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, le=_MOST, allow_inf_nan=False)]

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
"""From 0 to 1."""

UpToOne = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
ShareBelowOne = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
InnerShare = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
"""Between 0 and 1, neither of them."""

Normalise = Literal["as_is", "mean_one", "expected_one"]
"""What class weights are scaled to."""


class Keys(BaseModel, extra="forbid", strict=True, arbitrary_types_allowed=True):
    """Base class of a group of configuration keys: its fields are their names, types and ranges."""
