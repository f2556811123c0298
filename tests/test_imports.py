"""Imports run one way only, downwards in ORDER, and only who must knows Hydra, Lightning, wandb and torch."""

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import fer_lightning

ROOT = Path(fer_lightning.__file__).parent

ORDER = (
    "__main__",
    "cli",
    "train",
    "evaluate",
    "table",
    "sweep",
    "doctor",
    "cached",
    "weights",
    "launch",
    "run",
    "testing",
    "training",
    "measure",
    "guards",
    "build",
    "faces",
    "stages",
    "loggers",
    "wandb_board",
    "dashboard",
    "figures",
    "callbacks",
    "history",
    "objective",
    "checking",
    "config",
    "overrides",
    "module",
    "features",
    "inference",
    "ranks",
    "optim",
    "schedules",
    "freeze",
    "posthoc",
    "metrics",
    "models",
    "losses",
    "class_weights",
    "data",
    "document",
    "results",
    "layout",
    "progress",
    "processes",
    "contracts",
    "cache",
    "labels",
    "errors",
    "__init__",
)
"""Top-level modules and packages: each may import those below it. Inside a package there are only no circles."""

KNOWN_TO = {
    "hydra": ("train", "sweep.hydra_app", "sweep.running", "sweep.search", "config", "overrides"),
    "omegaconf": ("sweep.hydra_app", "sweep.running", "config", "overrides", "table.plan"),
    "pytorch_lightning": (
        "training",
        "build",
        "faces",
        "stages",
        "loggers",
        "callbacks",
        "history",
        "module",
        "features",
        "data.datamodule",
        "ranks",
    ),
    "wandb": ("wandb_board",),
}
"""Who may import a framework at all."""

Imports = list[tuple[str, bool]]
"""Imported names, dotted, and whether that happens when the module is loaded."""


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name; a package stands for its __init__."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)] = path
    return found


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def walk(node: ast.AST, at_load: bool) -> Imports:
    found: Imports = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            found += [(alias.name, at_load) for alias in child.names]
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"line {child.lineno}: a relative import; this project writes absolute ones"
            found += [(f"{child.module}.{alias.name}", at_load) for alias in child.names]
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            found += walk(child, at_load and not inside and not is_type_checking(child))
    return found


@cache
def imports(module: str) -> Imports:
    return walk(ast.parse(modules()[module].read_text()), True)


def resolved(name: str) -> str | None:
    """The module of this package that an imported name is, or is in; None for those of others."""
    parts = name.split(".")
    if parts[0] != "fer_lightning":
        return None
    longest = (".".join(parts[1:end]) for end in range(len(parts), 1, -1))
    return next((module for module in longest if module in modules()), "__init__")


def own(module: str, *, at_load: bool = False) -> set[str]:
    """The modules of this package that a module imports: at load only, or anywhere in its text."""
    found = {resolved(name) for name, loads in imports(module) if loads or not at_load}
    return {other for other in found if other is not None} - {module}


def loads(module: str) -> dict[str, str]:
    """The top-level names that are imported in the end when a module is loaded, each with who does it."""
    found: dict[str, str] = {}
    seen, todo = set(), {module}
    while todo:
        here = todo.pop()
        seen.add(here)
        found |= dict.fromkeys(packages(here, at_load=True), here)
        above = {here.rpartition(".")[0]} & modules().keys()  # loading a module loads its package
        todo |= (own(here, at_load=True) | above) - seen
    return found


def level(module: str) -> int:
    return ORDER.index(module.partition(".")[0])


def packages(module: str, *, at_load: bool) -> set[str]:
    """Top-level names of what a module imports: at load only, or anywhere."""
    return {name.partition(".")[0] for name, loads in imports(module) if loads or not at_load}


def test_this_test_sees_modules_and_their_imports() -> None:
    assert {"cli", "losses.cluster", "data.readers.ferplus", "table.plan", "__init__"} <= modules().keys()
    assert {"losses.center_term", "contracts"} <= own("losses.cluster")
    assert {"build", "guards", "results"} <= own("training")  # from fer_lightning import build, ...
    assert ("wandb", False) in imports("wandb_board")


@pytest.mark.parametrize("module", modules())
def test_every_module_has_its_place_in_the_order(module: str) -> None:
    assert module.partition(".")[0] in ORDER, (
        f"fer_lightning/{module.replace('.', '/')}.py is new: put {module.partition('.')[0]!r} into ORDER in "
        "tests/test_imports.py, above all that it imports and below all that import it"
    )


@pytest.mark.parametrize("place", ORDER)
def test_every_place_in_the_order_is_taken(place: str) -> None:
    assert any(module.partition(".")[0] == place for module in modules()), f"{place} is gone: take it out of ORDER"


@pytest.mark.parametrize("module", modules())
def test_a_module_imports_downwards_only(module: str) -> None:
    for other in sorted(own(module)):
        same_package = module.partition(".")[0] == other.partition(".")[0]
        assert same_package or level(module) < level(other), (
            f"{module} imports {other}, which stands above it in ORDER: turn the dependency round"
        )


def test_no_modules_import_each_other_in_a_circle() -> None:
    try:
        TopologicalSorter({module: own(module) for module in modules()}).prepare()
    except CycleError as error:
        pytest.fail("a circle of imports: " + " <- ".join(error.args[1]))


@pytest.mark.parametrize("framework", KNOWN_TO)
def test_a_framework_is_known_to_few(framework: str) -> None:
    known = {module for module in modules() if framework in packages(module, at_load=False)}
    others = known - set(KNOWN_TO[framework])
    assert not others, f"{framework} is not to be imported by {others}"
    assert known


def test_lightning_goes_by_one_name() -> None:
    others = {"lightning", "lightning_fabric"}
    assert not {module for module in modules() if packages(module, at_load=False) & others}


def test_wandb_is_imported_only_when_asked_for() -> None:
    assert not {module for module in modules() if "wandb" in packages(module, at_load=True)}


def those(*places: str) -> pytest.MarkDecorator:
    names = [module for module in modules() if module.partition(".")[0] in places]
    return pytest.mark.parametrize("module", names)


@those("table", "sweep", "doctor")
def test_tables_and_the_doctor_need_no_torch(module: str) -> None:
    heavy = {"torch", "torchvision", "torchmetrics", "timm", "pytorch_lightning"}
    assert not {name: by for name, by in loads(module).items() if name in heavy}


@those("faces")
def test_data_is_read_and_prepared_without_torch(module: str) -> None:
    heavy = {"torch", "torchvision", "timm", "pytorch_lightning"}
    assert not {name: by for name, by in loads(module).items() if name in heavy}


@those("losses", "class_weights", "metrics", "posthoc", "models", "inference", "contracts")
def test_a_notebook_has_losses_metrics_and_models_without_the_rest(module: str) -> None:
    rest = {"pytorch_lightning", "hydra", "omegaconf", "wandb"}
    assert not {name: by for name, by in loads(module).items() if name in rest}


@those("__main__", "cli", "layout", "errors", "labels", "__init__")
def test_the_command_line_starts_without_anything_heavy(module: str) -> None:
    heavy = {"torch", "timm", "pytorch_lightning", "hydra", "omegaconf", "numpy", "matplotlib", "albumentations"}
    assert not {name: by for name, by in loads(module).items() if name in heavy}
