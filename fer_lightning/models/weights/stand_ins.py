"""Stand-ins for harmless objects that checkpoints hold beside tensors, such as the arguments of a training.

A file of torch.save names classes and functions, which are called with what it holds. PyTorch refuses all names
but those of tensors; the names here are replaced by stand-ins, so that nothing of what they name is ever called.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any


class _Skipped:
    """Object whose arguments and state are dropped."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


class _Plain:
    """Dictionary of a class of its own, which becomes a plain one."""

    def __new__(cls, *_: Any, **__: Any) -> OrderedDict[Any, Any]:  # type: ignore[misc]
        """Return an empty dictionary, which is filled with the items that follow in the file."""
        return OrderedDict()


_SKIPPED = {
    "argparse": "Namespace",
    "builtins": "bool dict float frozenset int list object range slice str tuple",
    "datetime": "date datetime timedelta timezone",
    "numpy": "dtype ndarray",
    "numpy._core.multiarray": "_reconstruct scalar",
    "numpy.core.multiarray": "_reconstruct scalar",
    "omegaconf.base": "ContainerMetadata Metadata",
    "omegaconf.dictconfig": "DictConfig",
    "omegaconf.listconfig": "ListConfig",
    "omegaconf.nodes": "AnyNode BooleanNode FloatNode IntegerNode StringNode",
    "pathlib": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
    "pathlib._local": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
    "torch.torch_version": "TorchVersion",
    "types": "SimpleNamespace",
    "typing": "Any",
    "uuid": "UUID",
}
_PLAIN = {
    "addict.addict": "Dict",
    "collections": "defaultdict",
    "easydict": "EasyDict",
    "lightning.fabric.utilities.data": "AttributeDict",
    "lightning_fabric.utilities.data": "AttributeDict",
    "mmengine.config.config": "ConfigDict",
    "pytorch_lightning.utilities.parsing": "AttributeDict",
    "yacs.config": "CfgNode",
}

STAND_INS: list[Any] = [
    (stand_in, f"{module}.{name}")
    for stand_in, named in ((_Skipped, _SKIPPED), (_Plain, _PLAIN))
    for module, names in named.items()
    for name in names.split()
]
"""Argument of ``torch.serialization.safe_globals``: stand-ins, each with the name that it stands for."""
