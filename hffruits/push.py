"""A trained model onto the Hub: what is published, with its card, in one commit.

Published are the files that loading, judging and repeating need; never checkpoints, lists of the
photos' names, or where things lay on this machine.
"""

import json
import shlex
import tempfile
from pathlib import Path
from typing import Any

from hffruits.card import model_card
from hffruits.engines import RECORD, read_export
from hffruits.errors import InputError
from hffruits.hub_commit import Files, Pushed, Repository, push_files
from hffruits.run_dir import ARTIFACT_FILES

OWNED = (*sorted(ARTIFACT_FILES), "model-*.safetensors", "model.safetensors.index.json")
_EXPORTS = (RECORD, "model.onnx", "openvino_model.xml", "openvino_model.bin")


def push_model(
    folder: Path,
    repo_id: str,
    *,
    private: bool = False,
    license: str | None = None,
    datasets: tuple[str, ...] = (),
    card: Path | None = None,
    report: bool = True,
    token: str | None = None,
) -> Pushed:
    """Push the folder of a trained, taught or exported model to `user/name`, made if it is new.

    `license` and `datasets` are the Hub's names of them, for the card; `card` is a file to take for
    it instead. Without `report`, the page with its photos stays here. The same again changes
    nothing. Raises `InputError` for a folder without a model, and for what the Hub refuses.
    """
    folder = Path(folder).expanduser()
    check_pushable(folder)
    with tempfile.TemporaryDirectory(prefix="hffruits-push-") as place:
        public = Path(place)
        files = gather(folder, public, report=report)
        own = _own_card(card) if card else None

        def with_card(repository: Repository) -> Files:
            names = {"repo_id": repository.repo_id, "license": license, "datasets": datasets}
            text = own or str(model_card(public, **names))
            return files | {"README.md": text.encode()}

        return push_files(
            repo_id,
            with_card,
            owned=(*OWNED, *_EXPORTS),
            private=private,
            message=f"Push {folder.absolute().name} with hffruits",
            token=token,
        )


def check_pushable(folder: Path) -> None:
    """Raise `InputError` for a folder that holds no whole model."""
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder}: no model there. Name a folder that training has written.")
    if (folder / RECORD).is_file():
        files = [folder / name for name in read_export(folder / RECORD)["files"]]
    else:
        files = list(folder.glob("model*.safetensors")) or [folder / "model.safetensors"]
    if missing := [file.name for file in files if not file.is_file()]:
        raise InputError(f"{folder}: {missing[0]} is missing. Train or export the model anew.")


def gather(folder: Path, public: Path, *, report: bool = True) -> dict[str, Path]:
    """Fill `public` with what is published of a model's folder; returns the files by name.

    Records lose the folders of this machine; weights are linked, not copied.
    """
    places = _places(folder)
    names = [
        *ARTIFACT_FILES,
        *_EXPORTS,
        *(file.name for file in folder.glob("model-*.safetensors")),
    ]
    names += ["model.safetensors.index.json"]
    skipped = {"README.md"} | (set() if report else {"report.html"})
    for name in sorted({*names} - skipped):
        source, target = folder / name, public / name
        if not source.is_file():
            continue
        if source.suffix == ".json":
            record = json.loads(source.read_text(encoding="utf-8"))
            text = json.dumps(_without_folders(record), indent=2, ensure_ascii=False)
            target.write_text(text + "\n", encoding="utf-8")
        elif source.suffix == ".html":
            text = source.read_text(encoding="utf-8")
            for place in places:
                text = text.replace(str(place), place.name)
            target.write_text(text, encoding="utf-8")
        else:
            target.symlink_to(source.absolute())
    return {file.name: file for file in sorted(public.iterdir())}


def _own_card(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"card={file}: can't be read ({error}). Name a Markdown file.") from error


def _places(folder: Path) -> list[Path]:
    """Folders of this machine that a report may name, the longest first."""
    file = folder / "training_args.json"
    record = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    named = [record.get("data_path"), record.get("data", {}).get("data_dir")]
    named += [
        record.get("training", {}).get("output_dir"),
        str(folder.absolute()),
        str(folder.resolve()),
    ]
    places = {Path(name) for name in named if name and Path(name).is_absolute()}
    return sorted(places, key=lambda place: -len(str(place)))


def _without_folders(value: Any) -> Any:
    """A record with the last name of every absolute path, also of those in a command."""
    if isinstance(value, dict):
        return {
            key: _command(inner) if key == "command" and inner else _without_folders(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [_without_folders(inner) for inner in value]
    if isinstance(value, str) and Path(value).is_absolute():
        return Path(value).name
    return value


def _command(line: str) -> str:
    words = (
        f"{flag}={_without_folders(inner)}" if (flag := word.partition("=")[0]) != word else word
        for word in shlex.split(line)
        for inner in [word.partition("=")[2]]
    )
    return shlex.join(_without_folders(list(words)))
