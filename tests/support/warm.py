"""Processes forked from one that has imported everything, which takes many seconds.

The first test that needs that one starts it, for all processes of the session. Of what is read from
the environment while importing, forked processes read again what concerns the Hub; the rest
(TQDM_MININTERVAL) is that of the session.
"""

import atexit
import ctypes
import gc
import importlib
import importlib.util
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

IMPORTED = [
    *("hffruits.cli.main", "hffruits.cli.output", "hffruits.training.run"),
    *("hffruits.inference.batch_predict", "hffruits.hub.push_model", "support.runs"),
    *(["hffruits.demo.app"] if importlib.util.find_spec("gradio") else []),
]
WARM_SCRIPT = Path(__file__).with_name("warm_script.py")


def find_server() -> Path:
    """The folder with the session's socket; conftest.py puts its own in the place of this."""
    raise NotImplementedError


def warm_environment() -> dict[str, str]:
    """What processes that aren't of the session's own need to know, for `warm_script.py`."""
    paths = os.pathsep.join(path for path in sys.path if path)
    return {"WARM": str(find_server()), "PYTHONPATH": paths}


class Warm:
    """A process of `python -m MODULE ARGUMENTS`, of `python SCRIPT.py ARGUMENTS`, or of
    `python -c CODE ARGUMENTS`, after its imports, and the files of what it prints."""

    def __init__(
        self,
        words: Sequence[str | Path],
        *,
        output: Path | int,
        error: Path | int | None = None,
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
        place_of: int | None = None,
    ):
        """`output` and `error` are files, or descriptors of this process.

        `place_of`: a process whose namespaces and processors it shares.
        """
        self.output, self.error, self.returncode = output, error or output, None
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(str(find_server() / "socket"))
        self._lines = self._connection.makefile("r")
        request = {
            "words": [str(word) for word in words],
            "environment": dict(os.environ if env is None else env),
            "folder": str(cwd or Path.cwd()),
            "place_of": place_of,
        }
        files = [_opened(file) for file in (self.output, self.error)]
        socket.send_fds(self._connection, [json.dumps(request).encode() + b"\n"], files)
        self.pid = int(self._lines.readline())
        for file, given in zip(files, (self.output, self.error), strict=True):
            if file != given:
                os.close(file)

    def poll(self) -> int | None:
        """Its exit code, as `subprocess` has it; None while it runs."""
        if self.returncode is None and select.select([self._connection], [], [], 0)[0]:
            self.returncode = int(self._lines.readline())
            self._connection.close()
        return self.returncode

    def wait(self, timeout: float = 180) -> int:
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                self.send_signal(signal.SIGKILL)
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.02)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def done(self, timeout: float = 180) -> subprocess.CompletedProcess:
        """What `subprocess.run` returns, when it has ended."""
        code, files = self.wait(timeout), (self.output, self.error)
        return subprocess.CompletedProcess([], code, *(file.read_text() for file in files))


def _opened(file: Path | int) -> int:
    appending = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return os.open(file, appending) if isinstance(file, Path) else file


def run(words: Sequence[str | Path], *, folder: Path, **options) -> subprocess.CompletedProcess:
    """One process; `folder` gets what it prints."""
    return Warm(words, output=folder / "stdout", error=folder / "stderr", **options).done()


def run_apart(
    function: Callable[..., None], *arguments: object, folder: Path, timeout: float = 600
) -> subprocess.CompletedProcess:
    """Call a function of a file in a process of its own, which may crash.

    The arguments are what `repr` writes in full; `folder` gets what it prints.
    """
    code, path = function.__code__, Path(function.__code__.co_filename)
    call = f"runpy.run_path({str(path)!r})[{code.co_name!r}](*{arguments!r})"
    call = f"import runpy; from pathlib import PosixPath; {call}"
    error = folder / "stderr"
    return Warm(["-c", call], output=folder / "stdout", error=error).done(timeout)


def run_group(
    words: Sequence[str | Path], *, processes: int, folder: Path
) -> subprocess.CompletedProcess:
    """Several at once, with the environment that `torchrun` would give them.

    Where one fails, the others are terminated, as `torchrun` does it.
    """
    group = start_group(words, processes=processes, folder=folder)
    while any(process.poll() is None for process in group):
        if any(process.poll() for process in group):
            for process in group:
                process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
    code = next((process.returncode for process in group if process.returncode), 0)
    out, err = (file.read_text() for file in (group[0].output, group[0].error))
    return subprocess.CompletedProcess([], code, out, err)


def start_group(words: Sequence[str | Path], *, processes: int, folder: Path) -> list[Warm]:
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    group = []
    for rank in range(processes):
        own = {"RANK": rank, "LOCAL_RANK": rank, "MASTER_PORT": port, "MASTER_ADDR": "localhost"}
        own |= {"WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes, "OMP_NUM_THREADS": 1}
        environment = dict(os.environ) | {name: str(value) for name, value in own.items()}
        output = {"output": folder / "stdout", "error": folder / "stderr"}
        group.append(Warm(words, env=environment, **output))
    return group


# ---- the process that has imported everything ----


def start_server(folder: Path, *, owner: int) -> None:
    """Start it; it ends with the process `owner`."""
    folder.mkdir()
    command = [sys.executable, "-m", "support.warm", folder, str(owner)]
    paths = os.pathsep.join(path for path in sys.path if path)
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            command,
            env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    while not (folder / "socket").exists():
        assert server.poll() is None, (folder / "log").read_text()
        time.sleep(0.05)


def serve(folder: Path, owner: int) -> None:
    gc.disable()
    for module in IMPORTED:
        importlib.import_module(module)
    gc.freeze()
    gc.enable()
    assert threading.active_count() == 1  # others would be missing in forked processes
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "aside"))
        listening.listen()
        (folder / "aside").rename(folder / "socket")
        listening.settimeout(1)
        while _is_alive(owner):
            _reap()
            try:
                connection, _ = listening.accept()
            except TimeoutError:
                continue
            if os.fork() == 0:
                listening.close()
                connection.setblocking(True)
                _keep(connection)
            connection.close()


def _reap() -> None:
    """Let those that have ended go."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _keep(connection: socket.socket) -> None:
    """Fork what is asked for, and say how it ended."""
    with connection:
        content, files, *_ = socket.recv_fds(connection, 1_000_000, 2)
        while not content.endswith(b"\n"):
            content += connection.recv(1_000_000)
        pid = os.fork()
        if pid == 0:
            connection.close()
            _become(files, **json.loads(content))
        connection.sendall(b"%d\n" % pid)
        _, status = os.waitpid(pid, 0)
        connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _become(
    files: list[int],
    words: list[str],
    environment: dict[str, str],
    folder: str,
    place_of: int | None,
) -> None:
    """What a process of Python is after its imports."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if place_of:
        _move_to(place_of)
    for number, file in zip((1, 2), files, strict=True):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    tempfile.tempdir = None  # may have been chosen by TMPDIR
    for module in ("huggingface_hub.constants", "datasets.config"):
        importlib.reload(sys.modules[module])
    code = 1
    try:
        code = _run(words)
        threading._shutdown()
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _move_to(pid: int) -> None:
    os.sched_setaffinity(0, os.sched_getaffinity(pid))
    for kind in ("net", "mnt"):
        with Path(f"/proc/{pid}/ns/{kind}").open() as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), 0):
                raise OSError(ctypes.get_errno(), "setns")


def _run(words: list[str]) -> int:
    sys.argv = list(words)
    try:
        if words[0] == "-c":
            sys.argv[1:2] = []
            exec(compile(words[1], "-c", "exec"), {"__name__": "__main__"})
        elif words[0].endswith(".py"):
            sys.path.insert(0, str(Path(words[0]).parent))
            runpy.run_path(words[0], run_name="__main__")
        else:
            runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
