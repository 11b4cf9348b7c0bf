"""The check of a Space: its files are started, and must predict as the model does.

In an environment of their own: nothing of ours but what `requirements.txt` and the files bring.
"""

import contextlib
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import gradio_client
import httpx
from gradio_client.exceptions import AppError
from huggingface_hub import get_token

from hffruits.core.errors import InputError
from hffruits.core.hub_client import one_line, without_token
from hffruits.data.samples import example_photos
from hffruits.inference.classifier import FruitClassifier

logger = logging.getLogger(__name__)
WAYS = ("full", "quick", "none")
ASKED = 3  # of the sample photos
START_SECONDS = 300  # with the model to be fetched
_PASSED_ON = (  # of our environment: where things are fetched, and with whose token
    *("PATH", "LANG", "SYSTEMROOT", "TMPDIR", "HF_ENDPOINT", "HF_TOKEN", "HF_HUB_DISABLE_XET"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)


def check_space(
    folder: Path,
    place: Path,
    fruits: FruitClassifier,
    *,
    way: str = "full",
    token: str | None = None,
) -> None:
    """Start a Space's `app.py` and compare its predictions with the model's own.

    `full` installs its `requirements.txt` into a new environment below `place`, which takes minutes
    and some GB; `quick` takes the packages that are installed here. Raises `InputError` with the
    last line of what doesn't start.
    """
    logger.info("Testing the Space's files")
    python = Path(sys.executable) if way == "quick" else install(folder, place / "venv")
    home = place / "home"
    home.mkdir()
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    environment |= {"HOME": str(home), "USERPROFILE": str(home), "HF_HOME": str(home / "hf")}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"  # the files stay what they are
    if token := token or get_token():  # one that was saved lies in the home that it doesn't see
        environment["HF_TOKEN"] = token
    images = list(example_photos().values())[:ASKED]
    with started(python, folder, environment, log=place / "log.txt") as url:
        labels = [_ask(url, image) for image in images]
    for label, own in zip(labels, fruits.predict(images), strict=True):
        if label != own.label:
            raise InputError(
                f"{folder.name}: says {label} where the model says {own.label}. The model may "
                "have changed meanwhile: try again."
            )


def _ask(url: str, image: Path) -> str:
    """The label that a running Space gives an image."""
    try:
        client = gradio_client.Client(url, verbose=False, analytics_enabled=False)
        prediction, _ = client.predict(gradio_client.handle_file(image), api_name="/predict")
        return prediction["label"]
    except (AppError, httpx.HTTPError, OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"the Space doesn't answer: {one_line(error)}") from error


def install(folder: Path, venv: Path) -> Path:
    """A new environment with `requirements.txt`, by uv where it is installed; its Python."""
    logger.info("Installing the Space's requirements to test it: this takes minutes")
    python = venv / ("Scripts" if os.name == "nt" else "bin") / "python"
    requirements = ["install", "--quiet", "--requirement", str(folder / "requirements.txt")]
    if uv := shutil.which("uv"):
        commands = [
            [uv, "venv", "--quiet", "--python", sys.executable, str(venv)],
            [uv, "pip", *requirements, "--python", str(python)],
        ]
    else:
        commands = [
            [sys.executable, "-m", "venv", str(venv)],
            [str(python), "-m", "pip", *requirements],
        ]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise InputError(
                f"requirements.txt: can't be installed here ({_last_line(done.stderr)}). Fix "
                "that, or try with check=quick."
            )
    return python


@contextlib.contextmanager
def started(python: Path, folder: Path, environment: dict[str, str], *, log: Path) -> Iterator[str]:
    """The address of the running `app.py`, which is stopped in the end."""
    port = _free_port()
    environment = environment | {
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port),
    }
    url = f"http://127.0.0.1:{port}"
    with log.open("w") as stream:
        server = subprocess.Popen(
            [str(python), "app.py"], cwd=folder, env=environment, stdout=stream, stderr=stream
        )
        try:
            deadline = time.monotonic() + START_SECONDS
            while not _answers(url):
                if server.poll() is not None or time.monotonic() > deadline:
                    raise InputError(
                        f"the Space doesn't start: {_last_line(log.read_text(errors='replace'))}"
                    )
                time.sleep(0.5)
            yield url
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            return json.load(answer)["status"] == "ok"
    except (OSError, ValueError):
        return False


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return without_token(lines[-1].strip())[:300] if lines else "no output"
