"""A small Hub on this machine: enough of its HTTP API for `datasets` and `huggingface_hub` to read.

Repositories are held in memory. Only reading, only one revision of each; no sizes or dates of
commits.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from threading import Thread
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_of_the_tests"


@dataclass
class Repo:
    """One repository: its files, and who may read them."""

    files: dict[str, bytes] = field(default_factory=dict)
    private: bool = False
    gated: bool = False

    @property
    def sha(self) -> str:
        """The commit: another one for other files."""
        digest = hashlib.sha1()
        for path, content in sorted(self.files.items()):
            digest.update(path.encode() + hashlib.sha1(content).digest())
        return digest.hexdigest()


class Hub(ThreadingHTTPServer):
    """Serves `repos`, {("dataset", "user/fruits"): Repo}."""

    daemon_threads = True

    def __init__(self, repos: dict[tuple[str, str], Repo]):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos = repos

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serve_hub(repos: dict[tuple[str, str], Repo]) -> Iterator[Hub]:
    """A hub that answers until the block ends."""
    hub = Hub(repos)
    thread = Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()


class _Refusal(Exception):
    """An answer that is no success, as the Hub words it."""

    def __init__(self, status: int, code: str, message: str):
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_GET

    def log_message(self, *_) -> None:
        pass

    def _answer(self) -> None:
        url = urlsplit(self.path)
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        try:
            if parts[0] == "api":
                self._send_json(self._api(parts[1:], url.query))
            else:
                self._send_file(parts)
        except _Refusal as refusal:
            headers = {"X-Error-Code": refusal.code, "X-Error-Message": refusal.message}
            content = json.dumps({"error": refusal.message}).encode()
            self._send(refusal.status, content, {"Content-Type": "application/json"} | headers)

    def _api(self, parts: list[str], query: str) -> object:
        kind, user, name, *rest = (*parts, "", "")
        repo = self._repo(kind.removesuffix("s"), f"{user}/{name}")
        action, _, *path = rest  # as in tree/main/data
        try:
            answer = _API[action]
        except KeyError as error:
            raise _Refusal(404, "", f"nothing at {self.path}") from error
        return answer(repo, f"{user}/{name}", "/".join(path).strip("/"), parse_qs(query))

    def _repo(self, kind: str, name: str) -> Repo:
        repo = self.server.repos.get((kind, name))
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if repo is None or (repo.private and not known):
            raise _Refusal(404 if known else 401, "RepoNotFound", "Repository not found")
        return repo

    def _send_file(self, parts: list[str]) -> None:
        """`datasets/user/fruits/resolve/main/README.md`; models have no first part."""
        kind = parts.pop(0).removesuffix("s") if parts[0] == "datasets" else "model"
        user, name, _, _, *path = (*parts, "", "", "")
        repo = self._repo(kind, f"{user}/{name}")
        if repo.gated:
            raise _Refusal(403, "GatedRepo", "Access to this dataset is restricted")
        content = repo.files.get("/".join(path).strip("/"))
        headers = {"X-Repo-Commit": repo.sha, "Accept-Ranges": "bytes"}
        if content is None:
            raise _Refusal(404, "EntryNotFound", "Entry not found")
        headers["ETag"] = f'"{hashlib.sha1(content).hexdigest()}"'
        status = 200
        if wanted := self.headers.get("Range"):
            first, last = wanted.removeprefix("bytes=").split("-")
            end = min(int(last) + 1 if last else len(content), len(content))
            headers["Content-Range"] = f"bytes {first}-{end - 1}/{len(content)}"
            status, content = 206, content[int(first) : end]
        self._send(status, content, headers)

    def _send_json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


# ---- the API: repository, its name, a path and the fields of the request -> JSON ----


def _info(repo: Repo, name: str, path: str, fields: dict) -> dict:
    siblings = [{"rfilename": file} for file in sorted(repo.files)]
    shown = {"private": repo.private, "gated": repo.gated, "disabled": False, "tags": []}
    return {"_id": name, "id": name, "sha": repo.sha, "siblings": siblings, **shown}


def _tree(repo: Repo, name: str, path: str, fields: dict) -> list[dict]:
    below = {file for file in repo.files if not path or file.startswith(f"{path}/")}
    if not below:
        raise _Refusal(404, "EntryNotFound", f"{path} does not exist")
    found = {folder for folder in _folders(repo) if folder.startswith(f"{path}/" if path else "")}
    entries = [*(_folder(folder) for folder in found), *(_file(repo, file) for file in below)]
    if fields.get("recursive", ["false"])[0].lower() not in ("true", "1"):
        depth = path.count("/") + 1 if path else 0
        entries = [entry for entry in entries if entry["path"].count("/") == depth]
    return sorted(entries, key=lambda entry: entry["path"])


def _folders(repo: Repo) -> set[str]:
    return {str(parent) for file in repo.files for parent in PurePosixPath(file).parents} - {"."}


def _file(repo: Repo, path: str) -> dict:
    content = repo.files[path]
    digest = hashlib.sha1(content).hexdigest()
    return {"type": "file", "path": path, "size": len(content), "oid": digest}


def _folder(path: str) -> dict:
    return {"type": "directory", "path": path, "size": 0, "oid": hashlib.sha1(b"").hexdigest()}


_API: dict[str, Callable] = {"": _info, "revision": _info, "tree": _tree}
