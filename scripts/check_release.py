"""Check a release as its first user would: build it, install it, train, and ask the demo.

    python scripts/check_release.py            # or `make dist`, which builds into dist/

The wheel is built from the sdist and installed, with the versions in constraints.txt, into an
empty environment in a temporary folder. There it trains the sample photos for one epoch, and its
demo classifies one of them. Takes some minutes and up to 7 GB, which are removed at the end. Not
checked: extras, other versions of Python and of the packages.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import gradio_client
import httpx
from demo_server import serve_demo

ROOT = Path(__file__).parents[1]


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
        label = ask_demo(bin_folder, folder, photo)
        say(f"The demo takes a {photo.parent.name} for a {label}. {wheel.name} can be released")


def say(line: str) -> None:
    print(line, flush=True)


def build(dist: Path) -> Path:
    """The wheel of a new sdist; both have passed `twine check`."""
    remove_builds(dist)
    run([sys.executable, "-m", "build", "--quiet", "--outdir", dist, ROOT])
    files = sorted(dist.iterdir())
    run([sys.executable, "-m", "twine", "check", "--strict", *files])
    return next(file for file in files if file.suffix == ".whl")


def remove_builds(dist: Path) -> None:
    """Empty a folder of earlier builds; one that holds anything else is left as it is."""
    files = sorted(dist.iterdir()) if dist.exists() else []
    for file in files:
        if not file.is_file() or not file.match("hffruits-*.whl") | file.match("hffruits-*.tar.gz"):
            raise SystemExit(
                f"{dist}: holds {file.name}, no build of hffruits. Name another --dist"
            )
    for file in files:
        file.unlink()


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


def ask_demo(bin_folder: Path, folder: Path, photo: Path) -> str:
    """The label that the demo of `folder/run` gives a photo."""
    command = [bin_folder / "hffruits", "demo", "run"]
    with serve_demo(command, folder=folder, environment=clean_environment()) as server:
        return ask(server.url, photo)


def ask(url: str, photo: Path) -> str:
    """The label that a running demo gives a photo, after its page has been opened."""
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
