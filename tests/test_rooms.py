"""Rooms import downwards only, and only those that must know Hydra, Lightning, wandb and torch."""

from graphlib import CycleError, TopologicalSorter

import pytest
from rooms import (
    ROOMS,
    ROOT,
    between_rooms,
    imported_modules,
    imports,
    loaded_packages,
    modules,
    packages,
    room_of,
)

AT_THE_ROOT = {"__init__", "__main__"}

KNOWN_TO = {
    "hydra": ("cli", "config", "sweeps"),
    "omegaconf": ("cli", "config", "sweeps"),
    "pytorch_lightning": ("run", "training", "data.datamodule", "data.embedding_datamodule"),
    "wandb": ("training.loggers.wandb_run",),
}
"""Rooms and modules that may import a framework at all."""

TORCH = {"torch", "torchvision", "torchmetrics", "timm", "pytorch_lightning"}
FRAMEWORKS = {"pytorch_lightning", "hydra", "omegaconf", "wandb"}


def inside(module: str, *places: str) -> bool:
    return any(module == place or module.startswith(f"{place}.") for place in places)


def in_places(*places: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("module", [module for module in modules() if inside(module, *places)])


def test_this_test_sees_modules_and_their_imports() -> None:
    assert {"cli.main", "losses.cluster", "data.readers.ferplus", "tables.plan", "__init__"} <= modules().keys()
    assert {"losses.center_term", "core.contracts"} <= imported_modules("losses.affinity")
    assert {"run.build", "run.notices"} <= imported_modules(
        "run.train_stages"
    )  # from fer_lightning.run import ...
    assert ("wandb", False) in imports("training.loggers.wandb_run")
    assert ("run", "training") in between_rooms()


def test_the_root_holds_the_rooms_and_four_files() -> None:
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders - {"conf", "experiments"} == set(ROOMS)
    files = {path.name for path in ROOT.iterdir() if path.is_file()}
    assert files == {"__init__.py", "__main__.py", "py.typed", "README.md"}


@pytest.mark.parametrize("module", sorted(modules().keys() - AT_THE_ROOT))
def test_a_module_imports_from_its_room_and_those_below(module: str) -> None:
    level = ROOMS.index(room_of(module))
    upwards = {other for other in imported_modules(module) if room_of(other) in ROOMS[:level]}
    assert not upwards, f"{module} imports {upwards} from a room above {ROOMS[level]}: turn the dependency round"


def test_there_are_few_imports_between_rooms() -> None:
    assert len(between_rooms()) <= 60


def test_no_modules_import_each_other_in_a_circle() -> None:
    try:
        TopologicalSorter({module: imported_modules(module) for module in modules()}).prepare()
    except CycleError as error:
        pytest.fail("a circle of imports: " + " <- ".join(error.args[1]))


@pytest.mark.parametrize("framework", KNOWN_TO)
def test_a_framework_is_known_to_few(framework: str) -> None:
    known = {module for module in modules() if framework in packages(module, at_load=False)}
    others = {module for module in known if not inside(module, *KNOWN_TO[framework])}
    assert not others, f"{framework} is not to be imported by {others}"
    assert known


def test_lightning_goes_by_one_name() -> None:
    others = {"lightning", "lightning_fabric"}
    assert not {module for module in modules() if packages(module, at_load=False) & others}


def test_wandb_is_imported_only_when_asked_for() -> None:
    assert not {module for module in modules() if "wandb" in packages(module, at_load=True)}


@in_places("tables", "sweeps.planner", "sweeps.run_sweep", "sweeps.grid", "doctor", "run.launch", "run.claim")
def test_tables_sweeps_and_the_doctor_need_no_torch(module: str) -> None:
    assert not {name: by for name, by in loaded_packages(module).items() if name in TORCH}


@in_places("data.dataset", "data.store", "data.readers", "data.synthetic", "data.near_copies")
def test_data_is_read_and_prepared_without_torch(module: str) -> None:
    assert not {name: by for name, by in loaded_packages(module).items() if name in TORCH}


@in_places(
    "losses", "training.class_weights", "evaluation.metrics", "evaluation.posthoc", "models", "inference", "core"
)
def test_a_notebook_has_losses_metrics_and_models_without_the_rest(module: str) -> None:
    assert not {name: by for name, by in loaded_packages(module).items() if name in FRAMEWORKS}


@in_places("__main__", "cli.main", "config.shipped", "core.errors", "core.emotions", "__init__")
def test_the_command_line_starts_without_anything_heavy(module: str) -> None:
    heavy = {"torch", "timm", "pytorch_lightning", "hydra", "omegaconf", "numpy", "matplotlib", "albumentations"}
    assert not {name: by for name, by in loaded_packages(module).items() if name in heavy}
