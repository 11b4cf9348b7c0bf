"""Check a release as its first user would: build it, install it, train, and ask the demo.

    python scripts/check_release.py            # or `make dist`, which builds into dist/

The wheel is built from the sdist and installed, with the versions in constraints.txt, into an
empty environment in a temporary folder. There it trains the sample photos for one epoch, and its
demo classifies one of them. Takes some minutes and up to 7 GB, which are removed at the end. Not
checked: extras, other versions of Python and of the packages.
"""

import argparse
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import gradio_client
import httpx

ROOT = Path(__file__).parents[1]
START_SECONDS = 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dist", type=Path, default=ROOT / "dist", help="folder to build into")
    args = parser.parse_args()
    wheel = build(args.dist)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        say(f"Installing {wheel.name} into an empty environment")
        bin_folder = install(wheel, folder / "venv")
        say("Training the sample photos for one epoch")
        accuracy = train(bin_folder, folder)
        say(f"Validation accuracy {accuracy:.1%}. Opening the demo")
        photo = sample_photo(bin_folder, folder)
        with serve_demo(bin_folder, folder) as url:
            label = ask_demo(url, photo)
        say(f"The demo takes a {photo.parent.name} for a {label}. {wheel.name} can be released")


def say(line: str) -> None:
    print(line, flush=True)


def build(dist: Path) -> Path:
    """The wheel of a new sdist; both have passed `twine check`."""
    shutil.rmtree(dist, ignore_errors=True)
    run([sys.executable, "-m", "build", "--quiet", "--outdir", dist, ROOT])
    files = sorted(dist.iterdir())
    run([sys.executable, "-m", "twine", "check", "--strict", *files])
    return next(file for file in files if file.suffix == ".whl")


def install(wheel: Path, venv: Path) -> Path:
    """The folder of the programs of a new environment with the wheel."""
    run([ROOT / "scripts/make_venv.sh", sys.executable, venv, wheel.resolve()], cwd=ROOT)
    return venv / "bin"


def train(bin_folder: Path, folder: Path) -> float:
    """The validation accuracy of one epoch on the sample photos; the model is in `folder/run`."""
    options = ["--num_train_epochs", "1", "--output_dir", "run"]
    run([bin_folder / "hffruits", "train", *options], cwd=folder)
    metrics = json.loads((folder / "run/metrics.json").read_text(encoding="utf-8"))
    return metrics["validation"]["accuracy"]


def sample_photo(bin_folder: Path, folder: Path) -> Path:
    run([bin_folder / "hffruits", "samples", "samples"], cwd=folder)
    return next((folder / "samples").rglob("*.jpg"))


@contextlib.contextmanager
def serve_demo(bin_folder: Path, folder: Path) -> Iterator[str]:
    """The address of the demo of `folder/run`, which is stopped at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port)}
    command = [bin_folder / "hffruits", "demo", "run"]
    server = subprocess.Popen(command, cwd=folder, env=clean_environment() | settings)
    url = f"http://127.0.0.1:{port}/"
    try:
        wait_for(f"{url}health", server)
        yield url
    finally:
        server.terminate()
        server.wait(timeout=60)


def wait_for(url: str, server: subprocess.Popen) -> None:
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url).is_success:
                return
        time.sleep(0.5)
    raise SystemExit(f"{url}: the demo did not start (exit code {server.returncode})")


def ask_demo(url: str, photo: Path) -> str:
    """The label that the demo gives a photo, after its page has been opened."""
    page = httpx.get(url)
    if not page.is_success or "gradio" not in page.text:
        raise SystemExit(f"{url}: no page of the demo (status {page.status_code})")
    client = gradio_client.Client(url, verbose=False, analytics_enabled=False)
    prediction, *_ = client.predict(gradio_client.handle_file(photo), api_name="/predict")
    return prediction["label"]


def run(command: list, cwd: Path = ROOT) -> None:
    """Run a command outside this environment; what it prints is seen."""
    done = subprocess.run([str(word) for word in command], cwd=cwd, env=clean_environment())
    if done.returncode:
        raise SystemExit(f"{Path(command[0]).name}: failed with exit code {done.returncode}")


def clean_environment() -> dict[str, str]:
    """Without what would lead to this source tree's modules."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


if __name__ == "__main__":
    main()
