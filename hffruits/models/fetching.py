"""A model's files fetched from the Hub into the local cache."""

import logging
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download
from tqdm.auto import tqdm

from hffruits.core.errors import InputError
from hffruits.core.hub_client import translate_hub_errors, try_again
from hffruits.models.artifact import EXAMPLE_LABELS, EXAMPLES, FETCHED, NEVER_FETCHED
from hffruits.models.examples import PHOTO_NAMES, Example, load_examples

logger = logging.getLogger(__name__)


def fetch_model(repo_id: str, *, revision: str | None = None, token: str | None = None) -> Path:
    """The folder in the cache with a model's files, all of one commit; fetched where it is new.

    Without a network, what was fetched before is found. Raises `InputError` for a model that can't
    be had.
    """

    return _fetch(repo_id, FETCHED, NEVER_FETCHED, revision=revision, token=token)


def fetched_id(folder: Path) -> str | None:
    """The Hub id of a folder that `fetch_model` gave; None for any other."""
    repository = folder.parent.parent.name
    if folder.parent.name != "snapshots" or not repository.startswith("models--"):
        return None
    return repository.removeprefix("models--").replace("--", "/")


def examples_of(folder: Path) -> list[Example]:
    """The example photos in a model's folder; those of one that `fetch_model` gave are fetched.

    Only the demo, exports and taught models need them; where they can't be had, that is warned of.
    """
    if repo_id := fetched_id(folder):
        try:
            _fetch_examples(repo_id, revision=folder.name)
        except InputError as error:
            logger.warning("%s: its example photos can't be had (%s)", repo_id, error)
    return load_examples(folder)


def _fetch_examples(repo_id: str, *, revision: str) -> Path:
    wanted = [f"{EXAMPLES}/{name}" for name in (EXAMPLE_LABELS, *PHOTO_NAMES)]
    return _fetch(repo_id, wanted, (), revision=revision, token=None)


def _fetch(
    repo_id: str,
    wanted: Sequence[str],
    unwanted: Sequence[str],
    *,
    revision: str | None,
    token: str | None,
) -> Path:
    def fetch() -> str:
        return snapshot_download(
            repo_id,
            revision=revision,
            allow_patterns=list(wanted),
            ignore_patterns=list(unwanted),
            token=token,
            tqdm_class=_NoBar,  # each large file has one
        )

    with translate_hub_errors(repo_id, revision=revision, token=token):
        return Path(try_again(fetch, repo_id, token=token))


class _NoBar(tqdm):
    """No bar that counts files, which shows even where all are in the cache."""

    def __init__(self, *arguments: object, **options: object):
        super().__init__(*arguments, **options | {"disable": True})
