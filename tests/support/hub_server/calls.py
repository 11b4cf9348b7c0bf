"""One request, its response or error, and access control by repository.

The texts of errors are the Hub's where its clients read them.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from support.hub_server.repos import Account, Commit, Repo

if TYPE_CHECKING:
    from support.hub_server.server import Hub

NO_REPO = "RepoNotFound"


@dataclass
class Answer:
    status: int
    content: bytes
    headers: dict[str, str] = field(default_factory=dict)


class Refusal(Exception):
    """An answer that is no success, as the Hub words it."""

    def __init__(self, status: int, message: str, code: str = "", **more: object):
        super().__init__(message)
        self.status, self.message, self.code, self.more = status, message, code, more
        self.headers: dict[str, str] = {}

    def answer(self) -> Answer:
        words = self.message.encode("ascii", "replace").decode()  # headers hold no more than that
        headers = {"Content-Type": "application/json", "X-Error-Message": words}
        if self.code:
            headers["X-Error-Code"] = self.code
        content = json.dumps({"error": self.message} | self.more).encode()
        return Answer(self.status, content, headers | self.headers)


@dataclass(frozen=True)
class Call:
    """One request: user (None if anonymous), action and repository."""

    hub: "Hub"
    account: Account | None
    method: str
    path: str
    parts: tuple[str, ...]  # of the path, that the route has yet to read
    query: str
    headers: Mapping[str, str]
    body: bytes
    kind: str = ""
    name: str = ""

    @property
    def repo(self) -> Repo:
        return self.hub.repos[self.kind, self.name]

    @property
    def json(self) -> dict:
        return json.loads(self.body or b"{}")

    @property
    def page(self) -> str:
        """The repository's own page."""
        return f"{self.hub.url}/{'' if self.kind == 'model' else f'{self.kind}s/'}{self.name}"

    def asks_for(self, flag: str) -> bool:
        return parse_qs(self.query).get(flag, [""])[0].lower() in ("true", "1")

    def about(self, kind: str, name: str, rest: Iterable[str], *, write: bool = False) -> "Call":
        """The call, once it is known that this repository may be read, or written."""
        call = replace(self, kind=kind, name=name, parts=tuple(rest))
        repo, owner = self.hub.repos.get((kind, name)), name.partition("/")[0]
        own = self.account is not None and self.account.name == owner
        if repo is None or (repo.private and not own):
            raise Refusal(401 if self.account is None else 404, "Repository not found", NO_REPO)
        if write and self.account is None:
            raise Refusal(401, "Invalid username or password.", NO_REPO)
        if write and not (own and self.account.role == "write"):
            raise Refusal(403, "You don't have the required permissions for this operation")
        return call

    def commit(self, revision: str) -> Commit:
        found = self.repo.find(revision)
        if found is None:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return found
