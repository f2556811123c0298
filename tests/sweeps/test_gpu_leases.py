"""Runs of any sweep on a machine have GPUs of their own."""

import threading
from pathlib import Path

import pytest

from fer_lightning.sweeps import gpu_leases


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)


def test_two_runs_have_different_ones_and_a_third_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(gpu_leases.VISIBLE, "3,5,6")
    order: list[str] = []

    def third() -> None:
        with gpu_leases.leased(2) as environment:
            order.append(environment[gpu_leases.VISIBLE])

    waiting = threading.Thread(target=third)
    with gpu_leases.leased(1) as first:
        assert first == {gpu_leases.VISIBLE: "3"}
        with gpu_leases.leased(1) as second:
            assert second == {gpu_leases.VISIBLE: "5"}
            waiting.start()
            waiting.join(0.5)
            order.append("the first two end")
    waiting.join(10)
    assert order == ["the first two end", "3,5"]


def test_a_run_of_several_gpus_holds_none_while_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(gpu_leases.VISIBLE, "0,1")
    with gpu_leases.leased(1):
        waiting = threading.Thread(target=lambda: gpu_leases.leased(2).__enter__(), daemon=True)
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        with gpu_leases.leased(1) as other:
            assert other == {gpu_leases.VISIBLE: "1"}
    waiting.join(10)
    assert not waiting.is_alive()


def test_nothing_is_held_where_slurm_has_given_some_or_none_are_asked_for_or_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(gpu_leases.VISIBLE, "0")
    for number in (0, 2):
        with gpu_leases.leased(number) as environment:
            assert environment == {}
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with gpu_leases.leased(1) as environment:
        assert environment == {}


def test_without_a_driver_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(gpu_leases.VISIBLE, raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    assert gpu_leases.visible() == []


def test_the_driver_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: A (UUID: x)'\necho '  MIG 1g.5gb'\necho 'GPU 1: A (UUID: y)'\n")
    program.chmod(0o755)
    monkeypatch.delenv(gpu_leases.VISIBLE, raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert gpu_leases.visible() == ["0", "1"]
