"""A model's files fetched from the Hub into the local cache."""

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download
from tqdm.auto import tqdm

from hffruits.core.hub_client import translate_hub_errors, try_again
from hffruits.models.artifact import EXAMPLE_LABELS, EXAMPLES, FETCHED, NEVER_FETCHED
from hffruits.models.examples import MOST


def fetch_model(repo_id: str, *, revision: str | None = None, token: str | None = None) -> Path:
    """The folder in the cache with a model's files, all of one commit; fetched where it is new.

    Without a network, what was fetched before is found. Raises `InputError` for a model that can't
    be had.
    """

    return _fetch(repo_id, FETCHED, NEVER_FETCHED, revision=revision, token=token)


def fetch_examples(repo_id: str, *, revision: str, token: str | None = None) -> Path:
    """As `fetch_model`, the example photos of a model, which only its demo needs."""
    names = [EXAMPLE_LABELS, *(f"{number}.jpg" for number in range(1, MOST + 1))]
    wanted = [f"{EXAMPLES}/{name}" for name in names]
    return _fetch(repo_id, wanted, (), revision=revision, token=token)


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
