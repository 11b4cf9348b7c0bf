"""A Space: the demo of a Hub model as files that start anywhere, tested before they go online.

The package's own code comes along, so that the Space is what was tried; its sample photos don't:
the examples that a Space shows are the model's own.
"""

import importlib.metadata
import platform
import re
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import HfApi, SpaceCardData, constants
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from hffruits.core.claims import make_new
from hffruits.core.errors import InputError
from hffruits.core.escaping import markdown
from hffruits.core.files import translate_write_errors
from hffruits.core.hub_client import translate_hub_errors
from hffruits.data.samples import samples_dir
from hffruits.hub.commit import Pushed, check_push, push_files
from hffruits.hub.space_check import WAYS, check_space
from hffruits.inference.classifier import FruitClassifier
from hffruits.inference.engines.base import read_export
from hffruits.models.artifact import EXPORT
from hffruits.models.fetching import fetch_model

PACKAGE = Path(__file__).parents[1]
TEMPLATES = Path(__file__).with_name("templates") / "space"
_OF_TORCH = ("nvidia-", "cuda-", "triton")  # of its CUDA build, which pins them itself
OWNED = ("README.md", "app.py", "requirements.txt", "Dockerfile", "hffruits/*")


class SpaceMade(NamedTuple):
    """A Space, pushed or not."""

    pushed: Pushed | None
    private_model: bool


def make_space(
    model: str,
    repo_id: str | None = None,
    *,
    revision: str | None = None,
    output_dir: Path | None = None,
    title: str = "What fruit is this?",
    license: str | None = None,
    private: bool = False,
    check: str = "full",
    token: str | None = None,
) -> SpaceMade:
    """Write the Space of a Hub model, try it, and push it to `user/space`, made if it is new.

    Without `repo_id` it is only written, to `output_dir`. `check` is a way of `check_space`, or
    `none`. Raises `InputError` for a model that isn't on the Hub, for files that don't start or
    predict otherwise than the model, and for what the Hub refuses; nothing is pushed then.
    """
    if check not in WAYS:
        raise InputError(f"check={check}: unknown. Known: {', '.join(WAYS)}.")
    if repo_id is None and output_dir is None:
        raise InputError("name the Space to push to (user/space), or an output_dir to write to.")
    if Path(model).expanduser().is_dir() or model.count("/") != 1:
        raise InputError(f"{model}: not a Hub model, which a Space needs. Run hffruits push first.")
    output_dir = output_dir and output_dir.expanduser()
    if output_dir is not None and output_dir.exists():
        raise InputError(f"{output_dir}: already exists. Choose another output_dir, or remove it.")
    if repo_id is not None:
        before = {"kind": "space", "private": private, "license": license, "token": token}
        repo_id = check_push(repo_id, **before)
    with translate_hub_errors(model, revision=revision, token=token):
        info = HfApi(token=token).model_info(model, revision=revision)
    folder = fetch_model(model, revision=info.sha, token=token)
    with tempfile.TemporaryDirectory(prefix="hffruits-space-") as temporary:
        place = Path(temporary)
        files = place / "space"
        write_space(files, model, folder, revision=info.sha, title=title, license=license)
        if check != "none":
            fruits = FruitClassifier.from_pretrained(folder)
            check_space(files, place, fruits, way=check, token=token)
        found = (file for file in files.rglob("*") if file.is_file())
        content = {file.relative_to(files).as_posix(): file for file in found}
        if output_dir is not None:
            with translate_write_errors(output_dir, "Name another output_dir."):
                make_new(output_dir, partial(_copy, content), remedy="Name another output_dir.")
        if repo_id is None:
            return SpaceMade(None, bool(info.private))
        pushed = push_files(
            repo_id,
            content,
            kind="space",
            owned=OWNED,
            private=private,
            message=f"Serve {model} with hffruits",
            space_sdk="gradio",
            token=token,
        )
    return SpaceMade(pushed, bool(info.private))


def _copy(content: dict[str, Path], folder: Path) -> None:
    for name, file in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / name)


def write_space(
    folder: Path, model: str, fetched: Path, *, revision: str, title: str, license: str | None
) -> None:
    """The files of a Space for the model at one commit, which lies at `fetched`."""
    if not re.fullmatch(r"[\w .,:!?'&()-]{1,80}", title):
        raise InputError(f"title={title}: up to 80 letters, digits, spaces and . , : ! ? ' & ( ) -")
    left_out = shutil.ignore_patterns("__pycache__", samples_dir().name)
    shutil.copytree(PACKAGE, folder / "hffruits", ignore=left_out)
    python = ".".join(platform.python_version_tuple()[:2])
    head = SpaceCardData(
        title=title,
        emoji="\N{RED APPLE}",
        colorFrom="green",
        colorTo="yellow",
        sdk="gradio",
        sdk_version=importlib.metadata.version("gradio"),
        python_version=python,
        app_file="app.py",
        models=[model],
        license=license,
        tags=["hffruits", "fruit"],
        short_description="Classifies fruit in photos, or says that it is unknown",
    )
    facts = {
        "head": head.to_yaml(),
        "model": model,
        "revision": revision,
        "shown_title": markdown(title),
        "python": python,
        "endpoint": constants.ENDPOINT,
    }
    templates = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )
    for name in ("README.md", "app.py", "Dockerfile"):
        text = templates.get_template(f"{name}.jinja").render(facts)
        (folder / name).write_text(text, encoding="utf-8")
    extras = {read_export(fetched / EXPORT)["format"]} if (fetched / EXPORT).is_file() else set()
    lines = [f"{name}=={version}" for name, version in sorted(pinned("hffruits", extras).items())]
    (folder / "requirements.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def pinned(package: str, extras: set[str] = frozenset()) -> dict[str, str]:
    """All that an installed package needs, at any depth, with the versions that are installed."""
    found: dict[str, str] = {}
    waiting = [(package, frozenset(extras))]
    seen = set()
    while waiting:
        name, wanted = waiting.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        for line in _requirements(name):
            needed = Requirement(line)
            marker = needed.marker
            if marker and not any(marker.evaluate({"extra": e}) for e in (wanted or {""})):
                continue
            own = canonicalize_name(needed.name)
            if own != package and not own.startswith(_OF_TORCH) and _is_installed(own):
                found[own] = Version(importlib.metadata.version(own)).public  # less "+cpu"
            waiting.append((own, frozenset(needed.extras)))
    return found


def _is_installed(package: str) -> bool:
    return any(importlib.metadata.distributions(name=package))


def _requirements(package: str) -> list[str]:
    try:
        return importlib.metadata.requires(package) or []
    except importlib.metadata.PackageNotFoundError:
        return []  # of another platform than this
