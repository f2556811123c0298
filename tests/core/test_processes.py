"""Processes that end with those who started them."""

from __future__ import annotations

import threading

import pytest
from joblib import Parallel, delayed

from fer_lightning.core.processes import end_with_parent


def _watches() -> bool:
    """Return whether this process still watches its parent a moment after it was asked to."""
    end_with_parent()
    watch = next(thread for thread in threading.enumerate() if thread.name == "end with parent")
    watch.join(timeout=0.3)
    return watch.is_alive()


@pytest.mark.parametrize("backend", ["loky", "multiprocessing"])
def test_worker_of_joblib_watches_its_parent(backend: str) -> None:
    assert all(Parallel(n_jobs=2, backend=backend)(delayed(_watches)() for _ in range(2)))
