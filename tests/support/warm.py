"""Several processes of one command that start at once, forked from one that imported everything.

They have the environment and the output that `torchrun` would give them. What is read while
importing (HF_ENDPOINT, TQDM_MININTERVAL) is that of the session.
"""

import atexit
import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

IMPORTED = ["hffruits.cli.main", "hffruits.training.run", "hffruits.inference.batch_predict"]


def run_group(
    words: Sequence[str | Path], *, processes: int, folder: Path
) -> subprocess.CompletedProcess:
    """`python -m hffruits` with these words in each process; `folder` gets what they print.

    Where one fails, the others are terminated, as `torchrun` does it.
    """
    argv = [str(word) for word in words]
    out, err = folder / "stdout", folder / "stderr"
    group = _start(argv, processes, (out, err))
    while any(process.is_alive() for process in group):
        if any(process.exitcode for process in group):
            for process in group:
                process.terminate()
        time.sleep(0.05)
    code = next((process.exitcode for process in group if process.exitcode), 0)
    return subprocess.CompletedProcess(argv, code, out.read_text(), err.read_text())


def run_apart(
    function: Callable[..., None], *arguments: object, folder: Path, timeout: float = 600
) -> subprocess.CompletedProcess:
    """Call a function in a process of its own, which may crash; `folder` gets what it prints."""
    out, err = folder / "stdout", folder / "stderr"
    process = _context().Process(target=_call, args=((out, err), function, arguments))
    process.start()
    process.join(timeout)
    if process.is_alive():
        process.kill()
        process.join()
    texts = [file.read_text() if file.exists() else "" for file in (out, err)]
    return subprocess.CompletedProcess(function.__name__, process.exitcode, *texts)


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    return context


def _start(argv: list[str], processes: int, output: tuple[Path, Path]) -> list[BaseProcess]:
    context = _context()
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    group = []
    for rank in range(processes):
        own = {"RANK": rank, "LOCAL_RANK": rank, "MASTER_PORT": port, "MASTER_ADDR": "localhost"}
        own |= {"WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes, "OMP_NUM_THREADS": 1}
        environment = dict(os.environ) | {name: str(value) for name, value in own.items()}
        process = context.Process(target=_become, args=(argv, environment, Path.cwd(), output))
        process.start()
        group.append(process)
    return group


def _call(
    output: tuple[Path, Path], function: Callable[..., None], arguments: tuple[object, ...]
) -> None:
    _print_into(output)
    function(*arguments)


def _print_into(output: tuple[Path, Path]) -> None:
    for number, file in zip((1, 2), output, strict=True):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)


def _become(
    argv: list[str], environment: dict[str, str], folder: str, output: tuple[Path, Path]
) -> None:
    """What a process of `python -m hffruits` is after its imports."""
    _print_into(output)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["hffruits", *argv]
    try:
        runpy.run_module("hffruits", run_name="__main__")
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
