"""What is kept on disk is whole or absent, shared as the umask says, and found by its content."""

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from fer_lightning.core import files
from fer_lightning.core.errors import UserError
from fer_lightning.core.files import (
    atomic_folder,
    atomic_path,
    content_hash,
    file_hash,
    home,
    locked,
    user_path,
    write_atomic,
)
from fer_lightning.run.claim import claimed

HOLDER = """
import sys, time
from pathlib import Path
from fer_lightning.core.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(params=[0o022, 0o002, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def stop_half_way(path: Path, error: BaseException) -> None:
    path.write_text("half")
    raise error


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_appears_only_when_its_block_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    with atomic_path(path) as partial:
        partial.write_text("whole")
        assert not path.exists()
        assert partial.parent == path.parent  # a rename over file systems is a copy
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_file_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "file.txt") as partial:
        stop_half_way(partial, KeyboardInterrupt())
    assert list(tmp_path.iterdir()) == []


def test_a_failed_file_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_atomic(path, "old")
    with pytest.raises(OSError, match="disk"), atomic_path(path) as partial:
        stop_half_way(partial, OSError("disk full"))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("data", ["gr\u00fcn\n", b"\x00\xff"])
def test_text_and_bytes_are_written_as_they_are(tmp_path: Path, data: str | bytes) -> None:
    write_atomic(tmp_path / "file", "something longer that stood there before")
    write_atomic(tmp_path / "file", data)
    assert (tmp_path / "file").read_bytes() == (data.encode() if isinstance(data, str) else data)


def test_a_folder_appears_only_when_its_block_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "folder"
    with atomic_folder(path) as partial:
        (partial / "file").write_text("whole")
        assert not path.exists()
    assert [entry.name for entry in path.iterdir()] == ["file"]
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_folder_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "folder") as partial:
        stop_half_way(partial / "file", KeyboardInterrupt())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_somebody_else_has_made_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with atomic_folder(path) as partial:
        (partial / "file").write_text("second")
        path.mkdir()
        (path / "file").write_text("first")
    assert (path / "file").read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_modes_of_files_and_folders_follow_the_umask(tmp_path: Path, umask: int) -> None:
    write_atomic(tmp_path / "file", "")
    with atomic_folder(tmp_path / "folder"):
        pass
    assert mode(tmp_path / "file") == 0o666 & ~umask
    assert mode(tmp_path / "folder") == 0o777 & ~umask
    assert os.umask(umask) == umask  # reading the umask has not changed it


def test_a_content_hash_does_not_depend_on_the_order_of_keys() -> None:
    assert content_hash({"a": 1, "b": {"c": 2, "d": 3}}) == content_hash({"b": {"d": 3, "c": 2}, "a": 1})


@pytest.mark.parametrize("other", [{"a": [2, 1]}, {"a": [1, 2], "b": None}, {"a": ["1", 2]}, {"A": [1, 2]}, {}])
def test_a_content_hash_tells_values_apart(other: dict[str, object]) -> None:
    assert content_hash({"a": [1, 2]}) != content_hash(other)


def test_hashes_are_sha256(tmp_path: Path) -> None:
    known = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"  # printf '{}' | sha256sum
    (tmp_path / "file").write_text("{}")
    assert content_hash({}) == file_hash(tmp_path / "file") == known


def test_home_is_fer_cache_then_xdg_then_dot_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somebody")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("FER_CACHE", "~/own")
    assert home() == Path("/somebody/own")
    monkeypatch.delenv("FER_CACHE")
    assert home() == Path("/xdg/fer_lightning")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert home() == Path("/somebody/.cache/fer_lightning")


def test_a_lock_keeps_others_out_and_that_of_a_dead_process_is_free(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "entry"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        lock = FileLock(path.with_name("entry.lock"))
        with pytest.raises(Timeout):
            lock.acquire(timeout=0)
        holder.kill()
    lock.acquire(timeout=0)
    lock.release()
    with locked(path):
        pass


@pytest.mark.parametrize("hold", [locked, claimed])
def test_what_a_killed_process_left_half_written_goes_with_the_next_lock(
    tmp_path: Path, hold: Callable[[Path], AbstractContextManager[None]]
) -> None:
    folder = tmp_path / "entry"
    folder.mkdir()
    (folder / "kept.npy").write_bytes(b"whole")
    dies = "import os; os.kill(os.getpid(), 9)"  # within the block, where nothing can tidy up any more
    for kind in ("atomic_path", "atomic_folder"):
        script = f"from pathlib import Path; from fer_lightning.core.files import {kind}\n"
        script += f"with {kind}(Path({str(folder / kind)!r})): {dies}"
        assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    assert len([*folder.glob(".*.partial")]) == 2
    with hold(folder):
        assert [path.name for path in folder.iterdir() if path.name != ".lock"] == ["kept.npy"]


def test_a_home_folder_that_nobody_has_is_one_line() -> None:
    assert user_path("~/x") == Path.home() / "x"
    assert user_path(Path("x/y")) == Path("x/y")
    with pytest.raises(
        UserError, match=r"^~nobody-has-this-name/x: no home folder is known for ~nobody-has-this-name;"
    ):
        user_path("~nobody-has-this-name/x")


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_a_cache_that_cannot_be_written_to_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setenv("FER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(files.tempfile, "mkstemp", refuse)
    monkeypatch.setattr(files.tempfile, "mkdtemp", refuse)
    said = rf"the cache {tmp_path}/cache cannot be written to \({os.strerror(code)}\); set FER_CACHE to a folder"
    with pytest.raises(UserError, match=said):
        write_atomic(home() / "embeddings/x", "x")
    with pytest.raises(UserError, match=said), atomic_folder(home() / "synthetic/x"):
        pass
    with pytest.raises(OSError, match=os.strerror(code)):
        write_atomic(tmp_path / "elsewhere", "x")  # those who write elsewhere say what it is
    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(UserError, match=said), locked(home() / "stores/x"):
        pass
