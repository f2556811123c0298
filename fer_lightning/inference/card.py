"""The card of a model: plain values in its file from which the network and its pictures can be made again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from fer_lightning.core.contracts import ClassStats
from fer_lightning.core.errors import UserError
from fer_lightning.core.ranges import Finite, Margin, Natural, Positive, Side
from fer_lightning.data.store.crop import Codec, Recipe

FRAMING = "framing"
"""Key of the card that holds the framing; cards from before there was one lack it."""

Three = Annotated[list[Finite], Field(min_length=3, max_length=3)]
Pixels = Annotated[int, Field(ge=1, le=4096)]


class _Part(BaseModel):
    """Part of a card; keys that are not known are left alone."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)


class Fitted(_Part):
    """How the box of a detector is brought to the framing of the training pictures.

    A square of side factor * s takes the place of the box, s being the root of its area, around its centre moved
    by dx * s and dy * s.

    Attributes:
        factor: median over training pictures of the framing's side / s.
        dx: median of the distance of the centres to the right / s.
        dy: the same downwards.
        faces: number of pictures in which the detector found the face.
    """

    factor: Positive
    dx: Finite
    dy: Finite
    faces: Natural


class Framing(_Part):
    """How faces were cut out of pictures for training, and must be for the model.

    Attributes:
        faces: "boxes": training pictures had boxes around the faces; "crops": the whole picture was the face.
            None: not known, in cards from before this was written down.
        margin: share of a box's width and height by which it was grown on each side.
        size: side in pixels that the central square of the grown box was resized to.
        codec: how that square was kept: "jpeg" (quality 95), "png" or "raw".
        crop: side in pixels of its middle, which the network is given.
        detectors: how the boxes of a detector are brought to this framing, by its name; where that was fitted.
    """

    faces: Literal["boxes", "crops"] | None
    margin: Margin
    size: Side
    codec: Codec
    crop: Pixels
    detectors: dict[str, Fitted] = {}

    @model_serializer(mode="wrap")
    def _plain(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        plain: dict[str, Any] = handler(self)
        return plain if plain["detectors"] else {key: plain[key] for key in plain if key != "detectors"}

    @model_validator(mode="after")
    def _crop_fits(self) -> Self:
        if self.crop > self.size:
            raise ValueError(f"crop={self.crop} is larger than size={self.size}")
        return self

    @property
    def recipe(self) -> Recipe:
        """Return how faces are cut out and encoded."""
        return Recipe(self.size, self.margin, self.codec)


class _Timm(BaseModel, strict=True, extra="forbid"):
    name: str
    arguments: dict[str, Any] = {}
    mean: Three
    std: Annotated[list[Positive], Field(min_length=3, max_length=3)]
    input_size: Pixels | Annotated[list[Pixels], Field(min_length=2, max_length=2)] | None = None
    weights_hash: str | None = None


class _Class(_Part):
    """A class by its full name, and the arguments that it was made with."""

    name: Annotated[str, Field(alias="class", min_length=1)]
    arguments: dict[str, Any]


class _OwnBackbone(_Class):
    source: str


class _Classes(_Part):
    names: Annotated[list[str] | tuple[str, ...], Field(min_length=1)]
    counts: list[Natural] | tuple[Natural, ...]

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        ClassStats(tuple(self.names), tuple(self.counts))  # refuses classes that do not
        return self


class _Protocol(_Part):
    size: Side
    margin: Margin = 0.0
    crop: Pixels | None = None
    flip_averaging: bool = False


class Card(_Part):
    """The parts of a card that a model is made from, with their types.

    Attributes:
        backbone: timm's name and arguments of the backbone, or the user's class.
        neck: class of the neck.
        head: class of the head.
        class_stats: names of the classes, and their training pictures.
        protocol: what the results of the run are comparable under.
        framing: how faces are cut out; None in cards from before it was written down.
    """

    backbone: _Timm | _OwnBackbone
    neck: _Class
    head: _Class
    class_stats: _Classes
    protocol: _Protocol
    framing: Framing | None = None


class _Corrections(BaseModel, strict=True):
    corrections: dict[str, dict[str, Finite]]


def framing_of(content: Any, label: str) -> Framing:
    """Check the types of a card, and return the framing of its pictures.

    Args:
        content: the card.
        label: the model's file; messages begin with it.

    Raises:
        UserError: the card lacks a part, or a value has a wrong type or is out of its range.
    """
    try:
        card = Card.model_validate(content)
        if card.framing:
            return card.framing
        protocol = card.protocol
        data = content.get("config", {}).get("data", {})  # in cards without a framing
        codec, crop = data.get("codec", "png"), protocol.crop or protocol.size
        return Framing(faces=None, margin=protocol.margin, size=protocol.size, codec=codec, crop=crop)
    except (ValidationError, AttributeError) as error:
        raise UserError(f"{label}: its card is not one of fer: {reason(error)}") from error


def require_corrections(content: Any, label: str) -> None:
    """Refuse fitted corrections that are not numbers by name.

    Raises:
        UserError: a value has a wrong type or is not finite.
    """
    try:
        _Corrections.model_validate({"corrections": content})
    except ValidationError as error:
        raise UserError(f"{label}: its corrections are not those of fer: {reason(error)}") from error


def framing(protocol: Mapping[str, Any], *, codec: str, boxed: bool | None) -> dict[str, Any]:
    """Return the framing of a run's pictures for its card, as plain values.

    Args:
        protocol: protocol of the run.
        codec: codec of its prepared faces.
        boxed: whether its training pictures had boxes; None: not known.
    """
    faces = {None: None, True: "boxes", False: "crops"}[boxed]
    made = {key: protocol[key] for key in ("margin", "size", "crop")}
    return Framing.model_validate({**made, "codec": codec, "faces": faces}).model_dump()


def reason(error: Exception) -> str:
    """Return the first thing that is wrong with a card, in a few words."""
    if not isinstance(error, ValidationError):
        return " ".join(str(error).split())[:200]
    # of a backbone that is neither kind, the message about the kind that it resembles comes first
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"] if not str(part).startswith("_"))
    return f"{place or 'it'}: {first['msg']}"
