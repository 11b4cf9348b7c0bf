"""Start a demo on a free port of this machine, wait until it answers, and stop it."""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import httpx

START_SECONDS = 300


class Server(NamedTuple):
    """A demo that answers."""

    url: str
    process: subprocess.Popen


@contextlib.contextmanager
def serve_demo(
    command: list[str | Path],
    *,
    folder: Path | None = None,
    environment: dict[str, str] | None = None,
    output: int | IO | None = None,
) -> Iterator[Server]:
    """The demo that a command starts in a folder; it has an exit code afterwards.

    Raises `SystemExit` for one that doesn't start.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port)}
    environment = dict(os.environ if environment is None else environment) | place
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output)
    url = f"http://127.0.0.1:{port}/"
    try:
        wait_for(f"{url}health", process)
        yield Server(url, process)
    finally:
        process.terminate()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(url: str, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url).is_success:
                return
        time.sleep(0.5)
    raise SystemExit(f"{url}: the demo did not start (exit code {process.returncode})")
