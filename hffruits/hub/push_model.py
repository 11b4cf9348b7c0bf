"""Pushing a trained model to the Hub: what is published, with its card, in one commit.

Published are the files that loading, judging and repeating need; never checkpoints, lists of the
photos' names, or where things lay on this machine.
"""

import json
import logging
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi

from hffruits.core.errors import InputError, optional_output, short_reason
from hffruits.core.files import file_below, write_json, write_text
from hffruits.core.hub_client import translate_hub_errors
from hffruits.hub.commit import Files, Pushed, Repository, check_push, push_files
from hffruits.hub.redaction import redaction_of
from hffruits.inference.engines.base import read_export
from hffruits.models.artifact import (
    ARTIFACT_FILES,
    CARD,
    CONFIG,
    EXAMPLE_LABELS,
    EXAMPLES,
    EXPORT,
    ONNX,
    OPENVINO,
    OPENVINO_WEIGHTS,
    REPORT,
    WEIGHT_INDEX,
    WEIGHT_PARTS,
    WEIGHTS,
)
from hffruits.models.examples import (
    MAX_SHOWN_PIXELS,
    Example,
    load_examples,
    save_examples,
    small_jpeg,
)
from hffruits.models.model_card import model_card

logger = logging.getLogger(__name__)
EXPORTS = (EXPORT, ONNX, OPENVINO, OPENVINO_WEIGHTS)
_OF_EXAMPLES = (EXAMPLE_LABELS, "[0-9].jpg", "[0-9][0-9].jpg")
OWNED = (
    *(*sorted(ARTIFACT_FILES), *EXPORTS, WEIGHT_INDEX, WEIGHT_PARTS),
    *(f"{EXAMPLES}/{name}" for name in _OF_EXAMPLES),
)


def push(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    license: str | None = None,
    datasets: str | Sequence[str] = (),
    card: str | Path | None = None,
    report: bool = True,
    token: str | None = None,
) -> Pushed:
    """Push a trained, taught or exported model to the Hub with its card, in one commit.

    Pushing the same again changes nothing.

    Args:
        folder: where training, `teach` or `export` has written the model.
        repo_id: `user/name`, made if it is new; a name alone is one of yours.
        private: make a repository that only you see.
        license: the Hub's name of one, such as "apache-2.0", for the card.
        datasets: Hub datasets that the model was trained on, for the card; a run names its own.
        card: a Markdown file to take for the card instead.
        report: publish `report.html`, which shows some of the photos, and the `examples`, some
            held-out photos for the demo.
        token: a Hub token that may write; by default that of the login.

    Returns:
        A `Pushed`: `repo_id`, `url`, `commit`, and whether anything has `changed`.

    Raises:
        InputError: for a folder without a model, and for what the Hub refuses.

    >>> import hffruits
    >>> pushed = hffruits.push("runs/fruits", "fruits", private=True, license="apache-2.0")
    >>> pushed.repo_id, pushed.changed
    ('user/fruits', True)
    >>> hffruits.push("runs/fruits", "fruits").changed
    False
    """
    folder, card = Path(folder).expanduser(), card and Path(card).expanduser()
    datasets = (datasets,) if isinstance(datasets, str) else tuple(datasets)
    check_pushable(folder)
    if card and (license or datasets):
        raise InputError(
            f"card={card}: license and dataset belong in its head then. Leave them out."
        )
    check_datasets(datasets, token=token)
    repo_id = check_push(repo_id, private=private, license=license, token=token)
    with tempfile.TemporaryDirectory(prefix="hffruits-push-") as place:
        public = Path(place)
        files = gather(folder, public, report=report)
        own = _own_card(card) if card else None

        def with_card(repository: Repository) -> Files:
            names = {"repo_id": repository.repo_id, "datasets": datasets}
            terms = license or repository.license  # those of an earlier push hold
            text = own or str(model_card(public, license=terms, **names))
            return files | {CARD: text.encode()}

        return push_files(
            repo_id,
            with_card,
            owned=OWNED,
            private=private,
            message=f"Push {folder.absolute().name} with hffruits",
            token=token,
        )


def check_datasets(names: tuple[str, ...], *, token: str | None = None) -> None:
    """Raise `InputError` for a name that is no dataset of the Hub's."""
    for name in names:
        with translate_hub_errors(name, kind="dataset", token=token):
            HfApi(token=token).dataset_info(name)


def check_pushable(folder: Path) -> None:
    """Raise `InputError` for a folder that holds no whole model."""
    if not (folder / CONFIG).is_file():
        raise InputError(f"{folder}: no model there. Name a folder that training has written.")
    if (folder / EXPORT).is_file():
        names = read_export(folder / EXPORT)["files"]
    elif (index := folder / WEIGHT_INDEX).is_file():
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    else:
        names = [WEIGHTS]
    if missing := [name for name in sorted(names) if not (folder / name).is_file()]:
        raise InputError(f"{folder}: {missing[0]} is missing. Train or export the model again.")


def gather(folder: Path, public: Path, *, report: bool = True) -> dict[str, Path]:
    """Fill `public` with what is published of a model's folder; returns the files by name.

    Records and the report lose the folders of this machine; the others are linked. Raises
    `InputError` for a link out of the folder: a stranger's would publish any file of this machine.
    """
    redaction = redaction_of(folder)
    shards = [file.name for file in folder.glob(WEIGHT_PARTS)]
    names = {*ARTIFACT_FILES, *EXPORTS, *shards, WEIGHT_INDEX}
    skipped = {CARD} | (set() if report else {REPORT})
    for name in sorted(names - skipped):
        target = public / name
        if not (folder / name).is_file():
            continue
        source = file_below(folder, name)
        if source is None:
            raise InputError(f"{folder / name}: links to a file elsewhere. Copy that one here.")
        if target.suffix == ".json":
            record = json.loads(source.read_text(encoding="utf-8"))
            write_json(target, redaction.in_record(record))
        elif target.suffix == ".html":
            with optional_output(target, remedy="The model is pushed without it."):
                write_text(target, redaction.in_page(source.read_text(encoding="utf-8")))
        else:
            _link(source, target)
    if report:
        _add_examples(folder, public)
    files = (file for file in sorted(public.rglob("*")) if file.is_file())
    return {file.relative_to(public).as_posix(): file for file in files}


def _add_examples(folder: Path, public: Path) -> None:
    """New JPEGs without metadata; files that link elsewhere or are no photos are left out."""
    examples = []
    for label, photo in load_examples(folder):
        try:
            content = small_jpeg(photo, max_pixels=MAX_SHOWN_PIXELS)
            examples.append(Example(label, content))
        except OSError as error:
            logger.warning("%s: not published (%s)", photo, short_reason(error))
    save_examples(examples, public)
    shown = [f"{len(examples)} photos in {EXAMPLES}/"] if examples else []
    shown += [f"those in {REPORT}"] if (public / REPORT).is_file() else []
    if shown:
        logger.info("Photos    %s are published (report=False: none)", " and ".join(shown))


def _link(source: Path, target: Path) -> None:
    try:
        target.symlink_to(source)
    except OSError:  # Windows asks for a privilege
        shutil.copy2(source, target)


def _own_card(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"card={file}: can't be read ({short_reason(error)}). Name a Markdown file."
        ) from error
