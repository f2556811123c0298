"""State_dicts in what a weights file holds: below the keys that wrap them, and behind a prefix of all names."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class StateDict:
    """Tensors by name at one place in a file.

    Attributes:
        keys: the keys that lead to it, such as ``("state_dict",)``; none if the file itself is a state_dict.
        tensors: the tensors at this place by name.
    """

    keys: tuple[str, ...]
    tensors: dict[str, Tensor]


@dataclass(frozen=True)
class Part:
    """Tensors of a state_dict whose names begin alike.

    Attributes:
        state_dict: the state_dict.
        prefix: beginning of the names, such as ``module.``; may be empty.
    """

    state_dict: StateDict
    prefix: str

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by the rest of their names."""
        named = self.state_dict.tensors.items()
        return {name.removeprefix(self.prefix): value for name, value in named if name.startswith(self.prefix)}

    @property
    def name(self) -> str:
        """Return keys and prefix as one dotted name, such as ``state_dict.module``; empty for a whole file."""
        return ".".join([*self.state_dict.keys, *([self.prefix.removesuffix(".")] if self.prefix else [])])

    @property
    def origin(self) -> str:
        """Return where the part is, in words; empty for a whole file."""
        wrapper = f"taken from {'.'.join(self.state_dict.keys)}" if self.state_dict.keys else ""
        prefix = f"names without their prefix {self.prefix}" if self.prefix else ""
        return ", ".join(words for words in (wrapper, prefix) if words)

    def equals(self, other: Part) -> bool:
        """Return whether another part has the same tensors by the same names."""
        return same_tensors(self.tensors, other.tensors)

    def others(self, content: Any) -> list[str]:
        """Return the names of what a file holds beside this part: modules outside of the prefix, and keys."""
        names, node, path = [], content, ""
        for key in self.state_dict.keys:
            names += [f"{path}{other}" for other in node if other != key]
            node, path = node[key], f"{path}{key}."
        tensors = self.state_dict.tensors
        outside = Counter(
            _module_outside(name, self.prefix) for name in tensors if not name.startswith(self.prefix)
        )
        modules = [f"{path}{module} ({tensors_in(count)})" for module, count in outside.items()]
        return modules + names + [f"{path}{key}" for key in node if key not in tensors]


def same_tensors(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Return whether names, kinds of numbers and numbers are equal."""
    return one.keys() == other.keys() and all(
        value.dtype == other[name].dtype and torch.equal(value, other[name]) for name, value in one.items()
    )


def _module_outside(name: str, prefix: str) -> str:
    """Return the beginning of a name up to the first part that differs from the prefix."""
    parts, expected = name.split("."), prefix.split(".")
    same = next((i for i, part in enumerate(parts) if part != expected[i]), len(parts))
    return ".".join(parts[: same + 1])


def state_dicts(content: Any) -> list[StateDict]:
    """Return all state_dicts in the content of a file, those that are wrapped least first.

    Args:
        content: mappings of any depth; may contain itself.
    """
    found: list[StateDict] = []
    seen: set[int] = set()
    to_visit: deque[tuple[tuple[str, ...], Any]] = deque([((), content)])
    while to_visit:
        keys, node = to_visit.popleft()
        if not isinstance(node, Mapping) or id(node) in seen:
            continue
        seen.add(id(node))
        named = {key: value for key, value in node.items() if isinstance(key, str)}
        tensors = {key: value for key, value in named.items() if _holds_numbers(value)}
        if tensors:
            found.append(StateDict(keys, tensors))
        to_visit += [((*keys, key), value) for key, value in named.items() if key not in tensors]
    return found


def _holds_numbers(value: Any) -> bool:
    """Return whether a value is a tensor that can be copied into a network: dense, not quantised, with content."""
    dense = isinstance(value, Tensor) and value.layout == torch.strided
    return dense and not value.is_meta and not value.is_quantized


def parts(content: Any, needed: Container[str]) -> list[tuple[int, Part]]:
    """Return the parts of a file that have needed names, each with how many; those with most first.

    Args:
        content: see ``state_dicts``.
        needed: names that are searched for behind every prefix that ends at a dot.
    """
    found: list[tuple[int, Part]] = []
    for state_dict in state_dicts(content):
        counts: Counter[str] = Counter()
        for name in state_dict.tensors:
            starts = [0, *(place + 1 for place, letter in enumerate(name) if letter == ".")]
            counts.update(name[:start] for start in starts if name[start:] in needed)
        found += [(count, Part(state_dict, prefix)) for prefix, count in counts.items()]
    return sorted(found, key=lambda item: -item[0])


def part_named(content: Any, name: str) -> Part | None:
    """Return the part of a file with a dotted name such as ``Part.name`` returns; None if there is none."""
    for state_dict in state_dicts(content):
        place = ".".join(state_dict.keys)
        if name == place:
            return Part(state_dict, "")
        if not place or name.startswith(f"{place}."):
            part = Part(state_dict, f"{name.removeprefix(place).removeprefix('.')}.")
            if part.tensors:
                return part
    return None


def groups(names: Iterable[str]) -> dict[str, int]:
    """Return how many of the names begin with each first module, behind the prefix that all names share."""
    split = [name.split(".") for name in names]
    depth = 0
    while all(len(each) > depth + 1 for each in split) and len({each[depth] for each in split}) == 1:
        depth += 1
    return dict(Counter(".".join(each[: depth + 1]) for each in split))


def contents(content: Any) -> str:
    """Return what a file holds, in one line: its state_dicts with first names and groups, and its keys."""
    found = sorted(state_dicts(content), key=lambda each: -len(each.tensors))
    described = []
    for each in found[:3]:
        by_group = [f"{group} {count}" for group, count in groups(each.tensors).items()]
        place = f" in {'.'.join(each.keys)}" if each.keys else ""
        described.append(
            f"{tensors_in(len(each.tensors))}{place} ({listed(each.tensors)}; by module: {listed(by_group, 6)})"
        )
    if len(found) > 3:
        described.append(f"{len(found) - 3} more groups of tensors")
    beside = [str(key) for key in content if not any(key in each.tensors for each in found if not each.keys)]
    return ", ".join(described) + (f"; its keys are {listed(beside, 8)}" if beside else "")


def tensors_in(count: int) -> str:
    """Return a number of tensors in words."""
    return f"{count} tensor{'' if count == 1 else 's'}"


def listed(names: Iterable[str], most: int = 3) -> str:
    """Return the first names, and how many more there are."""
    every = [*names]
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return f"{', '.join(every[:most])}{more}"
