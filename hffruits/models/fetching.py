"""A model's files fetched from the Hub into the local cache."""

from pathlib import Path

from huggingface_hub import snapshot_download
from tqdm.auto import tqdm

from hffruits.core.hub_client import translate_hub_errors, try_again
from hffruits.models.artifact import FETCHED, NEVER_FETCHED


def fetch_model(repo_id: str, *, revision: str | None = None, token: str | None = None) -> Path:
    """The folder in the cache with a model's files, all of one commit; fetched where it is new.

    Without a network, what was fetched before is found. Raises `InputError` for a model that can't
    be had.
    """

    def fetch() -> str:
        return snapshot_download(
            repo_id,
            revision=revision,
            allow_patterns=list(FETCHED),
            ignore_patterns=list(NEVER_FETCHED),
            token=token,
            tqdm_class=_NoBar,  # each large file has one
        )

    with translate_hub_errors(repo_id, revision=revision, token=token):
        return Path(try_again(fetch, repo_id, token=token))


class _NoBar(tqdm):
    """No bar that counts files, which shows even where all are in the cache."""

    def __init__(self, *arguments: object, **options: object):
        super().__init__(*arguments, **options | {"disable": True})
