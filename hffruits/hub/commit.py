"""One commit to a Hub repository: atomic, and none if nothing changed.

`HfApi.upload_folder` makes several commits of a large folder, so that one that is interrupted
leaves half of it; `create_commit` makes one. What was sent before an interruption isn't sent again.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    RepoCard,
    constants,
    get_token,
)
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.hf_api import DatasetInfo, ModelInfo, SpaceInfo
from huggingface_hub.utils import logging as hub_logging
from huggingface_hub.utils import validate_repo_id

from hffruits.core.errors import InputError
from hffruits.core.hub_client import LOG_IN, translate_hub_errors, try_again
from hffruits.core.names import did_you_mean

KINDS = ("model", "dataset", "space")

Content = Path | bytes
Files = Mapping[str, Content]
MakeFiles = Callable[["Repository"], Files | Iterable[CommitOperationAdd]]


class Pushed(NamedTuple):
    """A repository after a push to it."""

    repo_id: str
    url: str
    commit: str
    changed: bool  # False where the repository had all of it already


def push_files(
    repo_id: str,
    files: Files | MakeFiles,
    *,
    kind: str = "model",
    owned: tuple[str, ...] = (),
    private: bool = False,
    message: str,
    space_sdk: str | None = None,
    token: str | None = None,
) -> Pushed:
    """Make a repository hold these files, in one commit on its main branch; made if it is new.

    `files` are by their path there, or what a function of the `Repository` gives, which may send
    them one by one (`Repository.add`). Files there that fit a pattern of `owned` and are not among
    these are removed; others stay. `repo_id` is what `check_push` gave. Raises `InputError` in one
    line, and the repository is as it was, also if the process ends.
    """
    assert kind in KINDS, kind
    with translate_hub_errors(repo_id, kind="repository", token=token):
        api = HfApi(token=token, library_name="hffruits")
        heads: list[str] = []  # a commit whose answer was lost is found made by the next try

        def push() -> Pushed:
            repository = Repository(api, repo_id, kind, private=private, space_sdk=space_sdk)
            heads.append(repository.head)
            repository.head = heads[0]  # what others have committed since then is not overwritten
            commit = repository.commit(files, owned=owned, message=message)
            return Pushed(repo_id, repository.url, commit, changed=commit != heads[0])

        return try_again(push, repo_id, token=token)


def check_push(
    repo_id: str,
    *,
    kind: str = "model",
    private: bool = False,
    license: str | None = None,
    token: str | None = None,
) -> str:
    """The full name of a repository that could be pushed to, as far as can be known.

    To be called before hours of work. Raises `InputError` for a name, token or license that won't
    do, and for a repository that is public where a private one is wanted.
    """
    with translate_hub_errors(repo_id, kind="repository", token=token):
        api = HfApi(token=token, library_name="hffruits")
        repo_id = try_again(lambda: _full_name(api, repo_id), repo_id, token=token)
        if license:
            try_again(lambda: _check_license(license, kind), repo_id, token=token)
        if private:
            with suppress(RepositoryNotFoundError):  # else it will be made
                _refuse_public(repo_id, api.repo_info(repo_id, repo_type=kind))
    return repo_id


class Repository:
    """A repository of the Hub as it is now, made if it is new."""

    def __init__(
        self, api: HfApi, repo_id: str, kind: str, *, private: bool, space_sdk: str | None
    ):
        self.api, self.repo_id, self.kind = api, repo_id, kind
        api.create_repo(
            repo_id,
            repo_type=kind,
            private=private or None,
            exist_ok=True,
            space_sdk=space_sdk,
        )
        info = api.repo_info(repo_id, repo_type=kind)
        if private:
            _refuse_public(repo_id, info)
        self.head = info.sha
        self.license = (info.card_data or {}).get("license")
        self.paths = {sibling.rfilename for sibling in info.siblings or ()}

    @property
    def url(self) -> str:
        """Its page."""
        place = self.repo_id if self.kind == "model" else f"{self.kind}s/{self.repo_id}"
        return f"{constants.ENDPOINT}/{place}"

    def add(self, path: str, content: Content) -> CommitOperationAdd:
        """A file of the commit to come, sent now if it is large; its source may go after that."""
        operation = CommitOperationAdd(path, content)
        self.api.preupload_lfs_files(
            self.repo_id, [operation], repo_type=self.kind, free_memory=False
        )
        return operation

    def commit(
        self,
        files: Files | MakeFiles,
        *,
        owned: tuple[str, ...],
        message: str,
    ) -> str:
        """The commit that holds the files; the head must not have moved since this was made."""
        files = files(self) if callable(files) else files
        if isinstance(files, Mapping):
            files = [CommitOperationAdd(path, files[path]) for path in sorted(files)]
        operations = list(files)
        kept = {operation.path_in_repo for operation in operations}
        stale = sorted(
            path for path in self.paths - kept if any(fnmatch(path, pattern) for pattern in owned)
        )
        with _quiet():
            done = self.api.create_commit(
                self.repo_id,
                [*operations, *(CommitOperationDelete(path) for path in stale)],
                commit_message=message,
                repo_type=self.kind,
                parent_commit=self.head,
            )
        return done.oid


def _check_license(license: str, kind: str) -> None:
    """Ask the Hub whether it knows this license, before a repository is made."""
    try:
        RepoCard(f"---\nlicense: {json.dumps(license)}\n---\n").validate(repo_type=kind)
    except ValueError as error:
        known = re.findall(r"[a-z0-9.-]+", str(error).partition("one of")[2])
        hint = did_you_mean(license.lower(), known)
        raise InputError(
            f"license={license}: not one that the Hub knows{hint}. See "
            "https://huggingface.co/docs/hub/repositories-licenses for its names."
        ) from error


def _refuse_public(repo_id: str, info: ModelInfo | DatasetInfo | SpaceInfo) -> None:
    if not info.private:
        raise InputError(
            f"{repo_id}: public on the Hub already. Make it private on its page first, push "
            "without private, or name another one."
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """No warning of the client that nothing has changed: `Pushed` says so."""
    verbosity = hub_logging.get_verbosity()
    hub_logging.set_verbosity_error()
    try:
        yield
    finally:
        hub_logging.set_verbosity(verbosity)


def _full_name(api: HfApi, repo_id: str) -> str:
    """`user/name`; the user is whom the token belongs to where none is named."""
    if api.token is None and get_token() is None:
        raise InputError(f"{repo_id}: pushing needs a login. {LOG_IN} to a token that may write.")
    me = api.whoami()
    if me.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise InputError(f"{repo_id}: this token may only read. {LOG_IN} to one that may write.")
    names = [me["name"], *(org["name"] for org in me.get("orgs", ()))]
    if "/" not in repo_id:
        repo_id = f"{me['name']}/{repo_id}"
    validate_repo_id(repo_id)
    owner = repo_id.partition("/")[0]
    if owner not in names:
        raise InputError(
            f"{repo_id}: this token belongs to {me['name']}, who may not write to {owner}'s. Name "
            f"it {me['name']}/..., or log in as {owner}."
        )
    return repo_id
