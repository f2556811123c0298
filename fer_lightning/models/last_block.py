"""A backbone in two: what comes before its last block, and the last block with all that follows."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node, Tracer

from fer_lightning.core.errors import UserError
from fer_lightning.models.backbone import Backbone
from fer_lightning.models.freeze import keep_frozen_in_eval, trained_blocks
from fer_lightning.models.network import Network


class Front(nn.Module):
    """The frozen part of a backbone: from uint8 pictures (N, 3, H, W) to what enters its last block.

    Args:
        backbone: the backbone, whose preparation of pictures comes first.
        graph: all that it computes before its last block, with the backbone's own modules.
    """

    def __init__(self, backbone: Backbone, graph: GraphModule) -> None:
        super().__init__()
        self.graph = graph
        self.code: str = graph.code
        self._backbone = [backbone]  # in a list, so that its last block is no part of this module
        for name, buffer in backbone.named_buffers(
            recurse=False
        ):  # mean and std are part of a hash of this module
            self.register_buffer(name, buffer)

    def forward(self, images: Tensor) -> Tensor:
        """Return the activations (N, ...) of pictures."""
        activations: Tensor = self.graph(self._backbone[0].prepared(images))
        return activations


@dataclass(frozen=True)
class Split:
    """The two parts of a backbone, made of its own modules: to train the tail is to train the backbone.

    Attributes:
        front: from pictures to activations, in eval mode.
        tails: from activations to embeddings, by whether the network is in training mode.
    """

    front: Front
    tails: dict[bool, GraphModule]


class TailNetwork(Network):
    """Network that is given activations in place of pictures; its weights are those of the whole network.

    Args:
        network: the whole network.
        tails: see Split.
    """

    def __init__(self, network: Network, tails: dict[bool, GraphModule]) -> None:
        super().__init__(network.backbone, network.neck, network.head)
        self.tails = tails  # in a dictionary, so that the last block is not there twice

    def embed(self, activations: Tensor) -> Tensor:
        """Return the embeddings (N, D) of activations (N, ...)."""
        embeddings: Tensor = self.neck(self.tails[self.training](activations))
        return embeddings


def split(backbone: Backbone, freeze: str | int) -> Split:
    """Split a backbone whose parameters are frozen as a stage freezes them, before its last block.

    Args:
        backbone: the backbone, on the device and in the dtype that it is trained in; it is left in training mode.
        freeze: the stage's ``freeze``.

    Raises:
        UserError: more or less than the last block is trained, the network cannot be traced, or what enters the
            last block is not one tensor.
    """
    parameters = _last_block(backbone, freeze)
    tails: dict[bool, GraphModule] = {}
    for training in (False, True):
        backbone.train(training)
        keep_frozen_in_eval(nn.ModuleList([backbone]))
        graph = _trace(backbone, parameters)
        entering = _entering(graph, backbone, parameters)
        picture = next(node for node in graph.nodes if node.op == "placeholder")
        (output,) = (node for node in graph.nodes if node.op == "output")
        tails[training] = GraphModule(backbone.network, _between(graph, entering, output.args[0]))
        if not training:
            front = Front(backbone, GraphModule(backbone.network, _between(graph, picture, entering)))
    return Split(front, tails)


def require_split(backbone: Backbone, freeze: str | int, pictures: Tensor) -> None:
    """Split a copy of a backbone, and compare it with the whole on some pictures, in eval and in training mode.

    Args:
        backbone: see split.
        freeze: see split.
        pictures: uint8 pictures (N, 3, H, W).

    Raises:
        UserError: see split; or the two parts compute something else than the whole.
    """
    backbone = deepcopy(backbone)
    parts = split(backbone, freeze)
    kept: Tensor | None = None
    for training in (False, True):
        backbone.train(training)
        keep_frozen_in_eval(nn.ModuleList([backbone]))
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            whole = backbone(pictures)
            torch.manual_seed(0)
            activations = parts.front(pictures)
            if not isinstance(activations, Tensor) or len(activations) != len(pictures):
                raise _refused(
                    backbone, "what enters its last block is not one tensor with a row for each picture"
                )
            kept = activations if kept is None else kept
            embeddings = parts.tails[training](activations)
        if not torch.equal(activations, kept):
            raise _refused(backbone, "its frozen part computes at random, or from the other pictures of a batch")
        if not torch.equal(embeddings, whole):
            raise _refused(backbone, "its two parts compute something else than the whole")


def _last_block(backbone: Backbone, freeze: str | int) -> set[nn.Parameter]:
    """Return the parameters of the last block.

    Raises:
        UserError: a stage that freezes this trains more or less than the last block.
    """
    blocks, trained = backbone.blocks(), trained_blocks(backbone, freeze)
    if len(trained) != 1 or len(blocks) == 1:
        raise UserError(
            f"stage: cached=true keeps what enters the last block of {backbone.name}, and freeze={freeze} trains "
            f"{', '.join(trained)}; set freeze=-1, or cached=false"
        )
    names = {*blocks[trained[0]]}
    return {parameter for name, parameter in backbone.named_parameters() if name in names}


class _BlockTracer(Tracer):
    """Tracer that enters only modules with parameters both of the last block and of others.

    All other modules are taken as they are, with their modes and with whatever control flow they have.
    """

    def __init__(self, last_block: set[nn.Parameter]) -> None:
        super().__init__()
        self.last_block = last_block

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return whether a module is taken as it is."""
        return len({parameter in self.last_block for parameter in m.parameters()}) < 2


def _trace(backbone: Backbone, last_block: set[nn.Parameter]) -> Graph:
    """Return the graph of a backbone's network in its present modes."""
    parameters = inspect.signature(backbone.network.forward).parameters.values()
    defaults = {one.name: one.default for one in parameters if one.default is not one.empty}
    try:
        return _BlockTracer(last_block).trace(backbone.network, defaults)
    except Exception as error:  # a network's code may do anything with what it does not expect
        sentence = f"{type(error).__name__}: {error}".partition(". ")[0]
        raise _refused(backbone, f"torch.fx cannot trace it ({sentence})") from error


def _entering(graph: Graph, backbone: Backbone, last_block: set[nn.Parameter]) -> Node:
    """Return the one value that the last block, and all that follows it, is computed from.

    Raises:
        UserError: there are several, or none.
    """
    pictured = _following(graph, (node for node in graph.nodes if node.op == "placeholder"))
    after = _following(graph, (node for node in graph.nodes if _holds(node, backbone.network, last_block)))
    entering: list[Node] = [node for node in graph.nodes if node in pictured - after and after & {*node.users}]
    if len(entering) != 1 or entering[0].op == "placeholder":
        named = ", ".join(node.name for node in entering)
        raise _refused(backbone, f"what enters its last block is not one tensor of the blocks before ({named})")
    return entering[0]


def _holds(node: Node, network: nn.Module, parameters: set[nn.Parameter]) -> bool:
    """Return whether a node is one of these parameters or a module that has some of them."""
    if node.op == "call_module":
        return not parameters.isdisjoint(network.get_submodule(str(node.target)).parameters())
    if node.op == "get_attr":
        path, _, name = str(node.target).rpartition(".")
        return any(getattr(network.get_submodule(path), name) is parameter for parameter in parameters)
    return False


def _following(graph: Graph, nodes: Iterable[Node]) -> set[Node]:
    """Return the nodes, and all that are computed from them."""
    found = {*nodes}
    for node in graph.nodes:  # in the order of computation
        if not found.isdisjoint(node.all_input_nodes):
            found.add(node)
    return found


def _between(graph: Graph, start: Node, end: Any) -> Graph:
    """Return the graph that computes one value of a graph from another."""
    part = Graph()
    copies = {start: part.placeholder("x")}
    for node in _needed(graph, start, end):
        copies[node] = part.node_copy(node, lambda one: copies[one])
    part.output(copies[end])
    return part


def _needed(graph: Graph, start: Node, end: Node) -> Iterator[Node]:
    """Yield the nodes between two, in the order of computation."""
    needed = {end}
    for node in reversed(graph.nodes):
        if node in needed and node is not start:
            needed.update(node.all_input_nodes)
    yield from (node for node in graph.nodes if node in needed and node is not start)


def _refused(backbone: Backbone, reason: str) -> UserError:
    return UserError(f"stage: cached=true cannot split {backbone.name}: {reason}; set cached=false")
