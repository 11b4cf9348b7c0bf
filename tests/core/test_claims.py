"""One process at a time writes to a folder; what a killed one left doesn't block the next."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import warnings
from contextlib import suppress
from pathlib import Path

import pytest
from filelock import FileLock

from hffruits.core import claims
from hffruits.core.claims import CLAIM, InUseError, claim, claims_output_dir, make_new
from hffruits.core.errors import InputError

HOLDER = """
import os, sys, time
from pathlib import Path
from hffruits.core.claims import claim
with claim(Path(sys.argv[1])):
    if "fork" in sys.argv and os.fork():
        time.sleep(60)  # the worker says when it runs, and so has let go of the lock
    print("claimed", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def hold(tmp_path):
    """Starts a process that claims a folder, until it is killed."""
    started = []

    def start(folder: Path, *words: str) -> subprocess.Popen:
        command = [sys.executable, "-c", HOLDER, str(folder), *words]
        options = {"stdout": subprocess.PIPE, "text": True, "start_new_session": True}
        process = subprocess.Popen(command, **options)
        started.append(process)
        assert process.stdout.readline() == "claimed\n"
        return process

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(claims, "BEAT", 0.02)
    monkeypatch.setattr(claims, "WATCHED", 0.3)


def left_by(host: str, folder: Path) -> Path:
    folder.mkdir()
    record = {"pid": 7, "host": host, "since": "2026-01-01 10:00"}
    (folder / CLAIM).write_text(json.dumps(record))
    return folder / CLAIM


@pytest.mark.parametrize("words", [(), ("fork",)])
def test_a_live_process_is_named_and_a_killed_one_does_not_block(hold, tmp_path, words):
    folder = tmp_path / "new" / "run"
    holder = hold(folder, *words)
    with (
        pytest.raises(InUseError, match=rf"run: process {holder.pid} on .* is writing there"),
        claim(folder),
    ):
        pass
    holder.kill()
    holder.wait()
    with claim(folder):  # at once, also while a worker that it forked is still alive
        assert json.loads((folder / CLAIM).read_text())["pid"] == os.getpid()
    assert not any(folder.iterdir())


def test_a_claim_leaves_nothing_but_what_was_written(tmp_path):
    with claim(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b").is_dir()
    assert not any(tmp_path.iterdir())
    with claim(tmp_path / "a"):
        (tmp_path / "a" / "model").touch()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["model"]
    with pytest.raises(InputError, match="can't be written"), claim(tmp_path / "a" / "model"):
        pass


def test_a_claim_of_another_machine_that_is_touched_holds(tmp_path, quick):
    record = left_by("elsewhere", tmp_path / "run")
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(0.02):
            os.utime(record)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with (
            pytest.raises(InUseError, match="process 7 on elsewhere, since 2026-01-01 10:00,"),
            claim(tmp_path / "run"),
        ):
            pass
    finally:
        ended.set()
        thread.join()
    assert record.is_file()


def test_a_claim_of_another_machine_that_is_not_touched_is_stale(tmp_path, quick, caplog):
    left_by("elsewhere", tmp_path / "run")
    with claim(tmp_path / "run"):
        assert "process 7 on elsewhere has left a claim" in caplog.text
    assert not any((tmp_path / "run").iterdir())


def test_without_locks_the_record_is_watched(tmp_path, quick, monkeypatch):
    def refuse(self, **options):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with claim(tmp_path / "run"), pytest.raises(InUseError), claim(tmp_path / "run"):
        pass
    with claim(tmp_path / "run"):
        pass


def test_a_file_system_without_locks_is_known_by_its_error(tmp_path, quick, monkeypatch):
    def refuse(handle, operation):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", refuse)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of filelock
        with claim(tmp_path / "run"), pytest.raises(InUseError), claim(tmp_path / "run"):
            pass
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.ESTALE])
def test_a_lock_that_fails_otherwise_is_an_error(tmp_path, monkeypatch, number):
    def fail(self, **options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(FileLock, "acquire", fail)
    with (
        pytest.raises(InputError, match=rf"run: can't be written \({os.strerror(number)}\)"),
        claim(tmp_path / "run"),
    ):
        pass
    assert not any(tmp_path.iterdir())


def test_of_two_that_make_the_same_new_folder_the_second_is_refused(tmp_path):
    def make(folder: Path) -> None:
        (folder / "whole").touch()
        with pytest.raises(InUseError):
            make_new(tmp_path / "new", make, remedy="Name another.")

    make_new(tmp_path / "new", make, remedy="Name another.")
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    with pytest.raises(InputError, match="new: already exists"):
        make_new(tmp_path / "new", make, remedy="Name another.")


def test_processes_of_one_launch_share_the_claim_of_the_first(tmp_path, monkeypatch):
    @claims_output_dir
    def explore(*, output_dir: str = "") -> list[str]:
        return [path.name for path in Path(output_dir).iterdir()]

    found = explore(output_dir=str(tmp_path / "out"))
    assert sorted(found) == [CLAIM, f"{CLAIM}.lock"]
    with claim(tmp_path):
        with pytest.raises(InUseError):
            explore(output_dir=str(tmp_path))
        monkeypatch.setenv("RANK", "1")
        assert explore(output_dir=str(tmp_path))


@pytest.mark.parametrize("name", ["explore", "split", "evaluate", "compare"])
def test_what_writes_a_folder_refuses_one_that_is_in_use(tmp_path, name):
    words = {"evaluate": ("model",), "compare": ("model", "other")}.get(name, ())
    import hffruits

    with claim(tmp_path / "out"), pytest.raises(InUseError, match="out: process"):
        getattr(hffruits, name)(*words, output_dir=tmp_path / "out")
