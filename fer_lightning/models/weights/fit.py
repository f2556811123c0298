"""Which part of a weights file is a network's state_dict, and what differs where none is."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fer_lightning.core.errors import UserError
from fer_lightning.models.weights.unwrap import Part, StateDict, contents, listed, parts, same_tensors

COUNT = "num_batches_tracked"
"""End of the name of a buffer of BatchNorm that is no weight, and that PyTorch before 0.4.1 did not save."""


@dataclass(frozen=True)
class Fit:
    """Comparison of a part of a file with a network.

    Attributes:
        part: the part.
        state: its tensors, without a classifier that the network lacks.
        classifiers: descriptions of the classifiers that are left out.
        counts_added: whether BatchNorm's counts of batches are missing from the file, and are 0 in ``state``.
        difference: what differs from the network, in words; empty if the part fits.
    """

    part: Part
    state: dict[str, Tensor]
    classifiers: tuple[str, ...]
    counts_added: bool
    difference: str

    def summary(self, content: Any) -> str:
        """Return how the part was taken from the file's content and what is left out; empty if it is the whole."""
        left_out = [f"its classifier, {each}" for each in self.classifiers] + self.part.others(content)
        words = [
            self.part.origin,
            f"left out: {listed(left_out, 6)}" if left_out else "",
            "BatchNorm's counts of batches, which the file lacks, start at 0" if self.counts_added else "",
        ]
        return "; ".join(word for word in words if word)


def difference(given: Mapping[str, Tensor], needed: Mapping[str, Tensor]) -> str:
    """Return up to three names that are missing, unknown, or of tensors of other shapes or kinds; else nothing."""
    missing = sorted(needed.keys() - given.keys())
    unknown = sorted(given.keys() - needed.keys())
    common = sorted(needed.keys() & given.keys())
    shapes = [
        f"{name} is {tuple(given[name].shape)}, needed {tuple(needed[name].shape)}"
        for name in common
        if given[name].shape != needed[name].shape
    ]
    kinds = [
        f"{name} is {given[name].dtype}, needed {needed[name].dtype}".replace("torch.", "")
        for name in common
        if given[name].is_floating_point() != needed[name].is_floating_point()
    ]
    differences = {
        "lacks": missing,
        "has unknown": unknown,
        "has other shapes:": shapes,
        "has other numbers:": kinds,
    }
    return next((f"the file {verb} {listed(names)}" for verb, names in differences.items() if names), "")


def require_fit(given: Mapping[str, Tensor], needed: Mapping[str, Tensor], label: str, advice: str) -> None:
    """Refuse tensors whose names, shapes or kinds differ from those that are needed.

    Args:
        given: the tensors of a file.
        needed: tensors with the names and shapes of the network.
        label: the file; the message begins with it.
        advice: the end of the message.

    Raises:
        UserError: there is a difference; the message lists up to three names.
    """
    if words := difference(given, needed):
        raise UserError(f"{label}: {words}; {advice}")


def complete(content: Any, network: nn.Module) -> list[Fit]:
    """Return the parts of a file that have all tensors of a network, fitting ones first.

    Of parts with equal weights, only one is returned.

    Args:
        content: what the file holds.
        network: a network of timm's, with or without its classifier.
    """
    needed = network.state_dict()
    weights = sum(not name.endswith(COUNT) for name in needed)
    compared = [_compare(part, needed, network) for count, part in parts(content, needed) if count >= weights]
    found: list[tuple[dict[str, Tensor], Fit]] = []
    for fit in sorted(compared, key=lambda each: bool(each.difference)):
        own = {name: value for name, value in fit.state.items() if name in needed}
        if not difference(own, needed) and not any(same_tensors(own, other) for other, _ in found):
            found.append((own, fit))
    return [fit for _, fit in found]


def compare_closest(content: Any, network: nn.Module) -> Fit:
    """Return the comparison of a network with the part of a file that has most of its names."""
    needed = network.state_dict()
    closest = next((part for _, part in parts(content, needed)), Part(StateDict((), {}), ""))
    return _compare(closest, needed, network)


def require_one(content: Any, network: nn.Module, label: str) -> Fit:
    """Return the only part of a file that is exactly the network's state_dict.

    Args:
        content: what the file holds.
        network: see ``complete``.
        label: the file; messages begin with it.

    Raises:
        UserError: no part fits, or the file has the network's tensors several times, with different weights.
    """
    found = complete(content, network)
    if not found or found[0].difference:
        needed = network.state_dict()
        closest = found[0] if found else compare_closest(content, network)
        where = f" ({closest.part.origin})" if closest.part.origin else ""
        raise UserError(
            f"{label}: these weights do not fit the backbone: {closest.difference}{where}; "
            f"the file holds {contents(content)}; the backbone has {len(needed)} tensors: {listed(needed)}; "
            "give the state_dict of exactly this network; fer weights inspect FILE shows which ones it fits"
        )
    require_one_part([fit.part for fit in found], label)
    return found[0]


def require_one_part(found: Sequence[Part], label: str) -> None:
    """Refuse several parts of a file that fit, and say how one of them is chosen.

    Raises:
        UserError: there are several.
    """
    if len(found) > 1:
        names = [part.name or "the file's own tensors" for part in found]
        first = shlex.quote(next(part.name for part in found if part.name))
        raise UserError(
            f"{label}: {len(found)} parts of the file fit, with different weights: {listed(names, 8)}; "
            f"write the one that you mean to its own file: fer weights extract FILE --part {first} --to NEW"
        )


def _compare(part: Part, needed: Mapping[str, Tensor], network: nn.Module) -> Fit:
    state, left_out = part.tensors, []
    for classifier in _classifiers(network):
        module = _whole_head(classifier, needed)
        names = {name for name in state.keys() - needed.keys() if name.startswith(f"{module}.")}
        if names:
            weight = state.get(f"{classifier}.weight")
            left_out.append(module if weight is None else f"{module} of {weight.shape[:1].numel()} classes")
        state = {name: value for name, value in state.items() if name not in names}
    counts = {name: torch.zeros_like(value) for name, value in needed.items() if name.endswith(COUNT)}
    counts_added = bool(counts) and not counts.keys() & state.keys()
    if counts_added:
        state |= counts
    return Fit(part, state, tuple(left_out), counts_added, difference(state, needed))


def _classifiers(network: nn.Module) -> list[str]:
    """Return the names of a timm network's classifiers: none, one, or several."""
    named: Any = (getattr(network, "pretrained_cfg", None) or {}).get("classifier") or []
    return [named] if isinstance(named, str) else list(named)


def _whole_head(classifier: str, needed: Mapping[str, Tensor]) -> str:
    """Return the module around a classifier, ``head`` for ``head.linear``, if the network has no part of it."""
    parent = classifier.rpartition(".")[0]
    return parent if parent and not any(name.startswith(f"{parent}.") for name in needed) else classifier
