"""What all tests share: one torch thread, a cache of their own, real faces, and no GPU tests without a GPU."""

import gc
import os
import signal
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported: waiting threads do not spin

import pytest
import torch

from fer_lightning.core.files import atomic_folder, locked

torch.set_num_threads(1)
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # in the background of a shell; runs would ignore it, too
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's ~/.cache; child processes inherit this, and all workers share it."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FER_CACHE", str(folder / "fer_cache"))
        yield


@pytest.fixture
def no_stages(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache like the common one, in which no first stage is trained yet. Returns its folder."""
    common, own = Path(os.environ["FER_CACHE"]), tmp_path_factory.mktemp("fer_cache")
    for kind in ("synthetic", "stores", "weights", "embeddings", "activations"):
        (common / kind).mkdir(parents=True, exist_ok=True)
        (own / kind).symlink_to(common / kind)
    monkeypatch.setenv("FER_CACHE", str(own))
    return own


@pytest.fixture(scope="session")
def ferplus_root() -> str:
    """The real set's root; unpacked once into the temporary folder, never into the checkout."""
    if own := os.environ.get("FER_FERPLUS_ROOT"):
        return own
    archive = Path(__file__).parents[2] / "shared/data/ferplus-train-valid.tar.xz"
    if not archive.is_file():
        pytest.skip("no FERPlus: set FER_FERPLUS_ROOT to the folder that holds FER2013Train")
    user = os.getuid() if hasattr(os, "getuid") else "user"
    folder = Path(tempfile.gettempdir()) / f"fer-lightning-tests-{user}" / "ferplus"
    with locked(folder):
        if not folder.is_dir():
            with atomic_folder(folder) as partial, tarfile.open(archive) as packed:
                packed.extractall(partial, filter="data")
    return str(folder)


def pytest_collection_finish() -> None:
    """Leave what is imported and collected out of every later garbage collection: a quarter of Hydra's time."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
