"""Runs of any sweep on a machine have GPUs of their own."""

import os
import shutil
import stat
import tempfile
import threading
from pathlib import Path

import pytest

from fer_lightning.sweeps import gpu_leases


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_leases, "FOLDER", tmp_path / "gpus")
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


LISTING = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)
  MIG 3g.20gb     Device  0: (UUID: MIG-c7384736-a75d-5afc-978f-d2f1294409fd)
  MIG 3g.20gb     Device  1: (UUID: MIG-a28ad590-3fda-56dd-84fc-0a0b96edc58d)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-8932f937-d72c-4106-c12f-20bd9faed9f6)
GPU 2: NVIDIA A100-SXM4-40GB (UUID: GPU-89aa1f2b-0b6c-11d2-9f1a-4c0f5b9a2e10)
"""
FIRST, SECOND = "MIG-c7384736-a75d-5afc-978f-d2f1294409fd", "MIG-a28ad590-3fda-56dd-84fc-0a0b96edc58d"
WHOLE, LAST = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "GPU-89aa1f2b-0b6c-11d2-9f1a-4c0f5b9a2e10"


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program nvidia-smi that lists what it does on a machine with three GPUs, one of them split in two."""
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat <<END\n{LISTING}END\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.delenv(gpu_leases.VISIBLE, raising=False)


@pytest.mark.parametrize(
    ("names", "devices"),
    [
        (None, [FIRST, SECOND, WHOLE, LAST]),
        ("1", [WHOLE]),
        (WHOLE, [WHOLE]),
        ("GPU-8932", [WHOLE]),
        ("2, 1", [LAST, WHOLE]),
        (f"1,{WHOLE}", [WHOLE]),
        ("0", [FIRST]),
        ("GPU-5d5ba0d6", [FIRST]),
        (SECOND, [SECOND]),
        ("MIG-GPU-5d5ba0d6/1/0", ["MIG-GPU-5d5ba0d6/1/0"]),
        ("1,-1,2", [WHOLE]),
        ("1,7,2", [WHOLE]),
        ("", []),
    ],
)
@pytest.mark.usefixtures("driver")
def test_every_name_of_a_gpu_is_its_uuid(
    names: str | None, devices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if names is not None:
        monkeypatch.setenv(gpu_leases.VISIBLE, names)
    assert gpu_leases.visible() == devices


@pytest.mark.usefixtures("driver")
def test_a_gpu_is_one_whatever_it_is_called_and_wherever_temporary_files_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(gpu_leases.VISIBLE, "1,2")
    with gpu_leases.leased(1) as first:
        assert first == {gpu_leases.VISIBLE: WHOLE}
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "own"))
        monkeypatch.setenv(gpu_leases.VISIBLE, f"{WHOLE},{LAST}")
        with gpu_leases.leased(1) as second:
            assert second == {gpu_leases.VISIBLE: LAST}


def test_the_locks_can_be_used_by_all_whatever_the_umask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(gpu_leases.VISIBLE, "MIG-GPU-5d/1/0")
    before = os.umask(0o077)
    try:
        with gpu_leases.leased(1):
            (lock,) = gpu_leases.FOLDER.iterdir()
            assert stat.S_IMODE(lock.stat().st_mode) == 0o666
            assert stat.S_IMODE(gpu_leases.FOLDER.stat().st_mode) == 0o1777
    finally:
        os.umask(before)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user")
def test_two_users_have_different_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(tempfile.mkdtemp(dir="/tmp"))  # pytest's own folders are closed to other users
    folder.chmod(0o1777)
    monkeypatch.setattr(gpu_leases, "FOLDER", folder / "gpus")
    monkeypatch.setenv(gpu_leases.VISIBLE, "3,5")
    monkeypatch.setenv("FER_CACHE", str(folder / "cache"))
    reader, writer = os.pipe()
    try:
        with gpu_leases.leased(1) as first:
            if (child := os.fork()) == 0:
                os.setgid(65534)
                os.setuid(65534)
                with gpu_leases.leased(1) as second:
                    os.write(writer, second[gpu_leases.VISIBLE].encode())
                os._exit(0)
            os.waitpid(child, 0)
            assert (first[gpu_leases.VISIBLE], os.read(reader, 9)) == ("3", b"5")
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("what", ["a link", "a file", "a lock that is a link"])
def test_what_cannot_be_shared_is_told_in_a_line_and_ones_own_runs_still_differ(
    tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gpu_leases._warn.cache_clear()
    monkeypatch.setenv("FER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(gpu_leases.VISIBLE, "3,5")
    (tmp_path / "elsewhere").mkdir()
    if what == "a link":
        gpu_leases.FOLDER.symlink_to(tmp_path / "elsewhere")
    elif what == "a file":
        gpu_leases.FOLDER.touch()
    else:
        gpu_leases.FOLDER.mkdir()
        for number in (3, 5):
            (gpu_leases.FOLDER / f"{number}.lock").symlink_to(tmp_path / "elsewhere" / "precious")
    with gpu_leases.leased(1) as first, gpu_leases.leased(1) as second:
        assert (first, second) == ({gpu_leases.VISIBLE: "3"}, {gpu_leases.VISIBLE: "5"})
    assert not [*(tmp_path / "elsewhere").iterdir()]
    assert {record.message.partition(": ")[0] for record in caplog.records} == {
        str(gpu_leases.FOLDER / f"{number}.lock") for number in (3, 5)
    }
    assert all("GPUs are not shared with other users' runs" in record.message for record in caplog.records)
