"""What the Hub answers: who may do what, and the routes, as huggingface_hub's `HfApi` asks them.

The words of refusals are the Hub's where its clients look at them.
"""

import hashlib
import json
from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from fnmatch import fnmatch
from math import ceil
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, urlencode

import yaml

from hub_server.cards import check_card, read_metadata
from hub_server.repos import ATTRIBUTES, KINDS, Account, Commit, File, Repo, Upload, needs_lfs

if TYPE_CHECKING:
    from hub_server.server import Hub


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
        headers = {"Content-Type": "application/json", "X-Error-Message": self.message}
        if self.code:
            headers["X-Error-Code"] = self.code
        content = json.dumps({"error": self.message} | self.more).encode()
        return Answer(self.status, content, headers | self.headers)


@dataclass(frozen=True)
class Call:
    """One request: who asks (None: nobody known), for what, about which repository."""

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
            raise Refusal(401 if self.account is None else 404, "Repository not found", _NO_REPO)
        if write and self.account is None:
            raise Refusal(401, "Invalid username or password.", _NO_REPO)
        if write and not (own and self.account.role == "write"):
            raise Refusal(403, "You don't have the required permissions for this operation")
        return call

    def commit(self, revision: str) -> Commit:
        found = self.repo.find(revision)
        if found is None:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return found


_NO_REPO = "RepoNotFound"


def answer(call: Call) -> Answer:
    """What the Hub says to it. Raises `Refusal` where that is no success."""
    try:
        found = _route(call)
    except (ValueError, KeyError, TypeError) as error:
        raise Refusal(400, f"Malformed request: {error!r}") from error
    if isinstance(found, Answer):
        return found
    return Answer(200, json.dumps(found).encode(), {"Content-Type": "application/json"})


def _route(call: Call) -> object:
    match call.parts:
        case ("api", *action) if route := _SITE.get((call.method, "/".join(action))):
            return route(call)
        case ("api", kinds, user, name, *rest) if kinds in KINDS:
            action = rest[0] if rest else ""
            if route := _REPO.get((call.method, action)):
                write = call.method != "GET" and action != "paths-info"
                return route(call.about(KINDS[kinds], f"{user}/{name}", rest[1:], write=write))
        case ("api", kinds, name) if kinds in KINDS:  # without a user: the hub has none of these
            call.about(KINDS[kinds], name, ())
        case ("lfs", kind, user, name, *rest) if call.method in ("PUT", "POST"):
            return _store(replace(call, kind=kind, name=f"{user}/{name}", parts=tuple(rest)))
        case (kinds, user, name, *rest) if kinds in ("datasets", "spaces"):
            return _page(call, KINDS[kinds], user, name, rest)
        case (user, name, *rest):
            return _page(call, "model", user, name, rest)
    raise Refusal(404, "Sorry, we can't find the page you are looking for.")


def _page(call: Call, kind: str, user: str, name: str, rest: list[str]) -> object:
    match call.method, rest:
        case "GET", ["resolve", revision, *path]:
            return _resolve(call.about(kind, f"{user}/{name}", (revision, *path)))
        case "POST", ["info", "lfs", "objects", action] if name.endswith(".git"):
            repo = f"{user}/{name.removesuffix('.git')}"
            return _LFS[action](call.about(kind, repo, (), write=True))
    raise Refusal(404, "Sorry, we can't find the page you are looking for.")


# ---- the site ----


def _whoami(call: Call) -> dict:
    if call.account is None:
        raise Refusal(401, "Invalid username or password.")
    token = {"displayName": "tests", "role": call.account.role}
    known = {"type": "user", "id": call.account.name, "name": call.account.name, "orgs": []}
    about = {"fullname": call.account.name.title(), "isPro": False}
    return known | about | {"auth": {"type": "access_token", "accessToken": token}}


def _named(call: Call) -> Call:
    """The repository that the body names, whether it is there or not."""
    asked = call.json
    owner = asked.get("organization") or (call.account.name if call.account else "")
    return replace(call, kind=asked.get("type") or "model", name=f"{owner}/{asked['name']}")


def _create(call: Call) -> dict:
    call = _named(call)
    owner = call.name.partition("/")[0]
    if call.account is None:
        raise Refusal(401, "Invalid username or password.")
    if call.account.role != "write" or call.account.name != owner:
        message = (
            f'You don\'t have the rights to create a {call.kind} under the namespace "{owner}"'
        )
        raise Refusal(403, message)
    if (call.kind, call.name) in call.hub.repos:
        raise Refusal(409, f"You already created this {call.kind} repo", url=call.page)
    asked = call.json
    repo = Repo({".gitattributes": ATTRIBUTES.encode()})
    repo.private = asked.get("visibility") == "private" or bool(asked.get("private"))
    repo.sdk = asked.get("sdk")
    call.hub.repos[call.kind, call.name] = repo
    return {"url": call.page, "name": call.name, "id": call.name}


def _delete(call: Call) -> dict:
    call = _named(call)
    call = call.about(call.kind, call.name, (), write=True)
    del call.hub.repos[call.kind, call.name]
    return {}


def _validate_yaml(call: Call) -> Answer:
    asked = call.json
    errors, warnings = check_card(asked["content"], asked.get("repoType") or "model")
    status = 400 if errors else 200
    if call.headers.get("Accept") == "text/plain":
        lines = [f"- Error: {line}" for line in errors] + [
            f"- Warning: {line}" for line in warnings
        ]
        return Answer(status, "\n".join(lines).encode(), {"Content-Type": "text/plain"})
    shown = {"errors": _messages(errors), "warnings": _messages(warnings)}
    return Answer(status, json.dumps(shown).encode(), {"Content-Type": "application/json"})


def _messages(lines: list[str]) -> list[dict]:
    return [{"message": line} for line in lines]


_SITE: dict[tuple[str, str], Callable[[Call], object]] = {
    ("GET", "whoami-v2"): _whoami,
    ("POST", "repos/create"): _create,
    ("DELETE", "repos/delete"): _delete,
    ("POST", "validate-yaml"): _validate_yaml,
}


# ---- reading a repository ----


def _info(call: Call) -> dict:
    """Of main, or of the revision that the path names."""
    repo, commit = call.repo, call.commit("/".join(call.parts) or "main")
    files = sorted(commit.files.items())
    oldest = list(repo.history(commit))[-1]
    card = _metadata(commit)
    shown = {
        "_id": hashlib.sha1(call.name.encode()).hexdigest()[:24],
        "id": call.name,
        "author": call.name.partition("/")[0],
        "sha": commit.sha,
        "lastModified": _date(commit.date),
        "createdAt": _date(oldest.date),
        "private": repo.private,
        "gated": "manual" if repo.gated is True else repo.gated,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": card.get("tags", []),
        "siblings": [_sibling(path, file, call.asks_for("blobs")) for path, file in files],
        "cardData": card,
        "usedStorage": sum(len(file.content) for _, file in files),
    }
    if call.kind == "model":
        given = {key: card[key] for key in ("pipeline_tag", "library_name") if key in card}
        return shown | {"modelId": call.name} | given
    return shown | ({"sdk": card.get("sdk", repo.sdk)} if call.kind == "space" else {})


def _metadata(commit: Commit) -> dict:
    try:
        found = read_metadata(commit.files["README.md"].content.decode())
    except (KeyError, ValueError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def _sibling(path: str, file: File, sizes: bool) -> dict:
    if not sizes:
        return {"rfilename": path}
    shown = {"rfilename": path, "blobId": file.blob, "size": len(file.content)}
    held = {"sha256": file.sha256, "size": len(file.content), "pointerSize": len(file.pointer)}
    return shown | ({"lfs": held} if file.lfs else {})


def _date(date: datetime) -> str:
    return date.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _tree(call: Call) -> Answer:
    revision, *path = call.parts
    commit, under = call.commit(revision), "/".join(path).strip("/")
    start = f"{under}/" if under else ""
    found = [
        entry
        for entry in _entries(call, commit, expand=call.asks_for("expand"))
        if entry["path"].startswith(start)
        and (call.asks_for("recursive") or "/" not in entry["path"].removeprefix(start))
    ]
    if under and not found:
        raise Refusal(404, f'"{under}" does not exist on "{revision}"', "EntryNotFound")
    return _paged(call, found)


def _paths_info(call: Call) -> list[dict]:
    asked = parse_qs(call.body.decode())
    paths = {path.strip("/") for path in asked.get("paths", [])}
    expand = asked.get("expand", [""])[0].lower() == "true"
    entries = _entries(call, call.commit("/".join(call.parts)), expand=expand)
    return [entry for entry in entries if entry["path"] in paths]


def _entries(call: Call, commit: Commit, *, expand: bool) -> list[dict]:
    """All files and folders of a snapshot, by path."""
    entries = [_file(path, file) for path, file in commit.files.items()]
    folders = {str(above) for path in commit.files for above in PurePosixPath(path).parents} - {"."}
    entries += [_folder(path, commit) for path in folders]
    if expand:
        entries = [entry | {"lastCommit": _last_commit(call, commit, entry)} for entry in entries]
    return sorted(entries, key=lambda entry: entry["path"])


def _file(path: str, file: File) -> dict:
    shown = {"type": "file", "path": path, "size": len(file.content), "oid": file.blob}
    held = {"oid": file.sha256, "size": len(file.content), "pointerSize": len(file.pointer)}
    return shown | ({"lfs": held} if file.lfs else {})


def _folder(path: str, commit: Commit) -> dict:
    return {"type": "directory", "path": path, "size": 0, "oid": _folder_id(path, commit)}


def _folder_id(path: str, commit: Commit) -> str:
    below = sorted(
        (at, file.blob) for at, file in commit.files.items() if at.startswith(f"{path}/")
    )
    return hashlib.sha1(repr(below).encode()).hexdigest()


def _last_commit(call: Call, commit: Commit, entry: dict) -> dict:
    """The commit that made the entry what it is."""
    last = commit
    for earlier in call.repo.history(commit):
        if entry["type"] == "directory":
            same = _folder_id(entry["path"], earlier) == entry["oid"]
        else:
            file = earlier.files.get(entry["path"])
            same = file is not None and file.blob == entry["oid"]
        if not same:
            break
        last = earlier
    return {"id": last.sha, "title": last.title, "date": _date(last.date)}


def _refs(call: Call) -> dict:
    branches = _named_commits("heads", call.repo.branches)
    tags = _named_commits("tags", call.repo.tags)
    return {"branches": branches, "tags": tags, "converts": [], "pullRequests": []}


def _named_commits(kind: str, names: dict[str, str]) -> list[dict]:
    return [
        {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": sha}
        for name, sha in names.items()
    ]


def _commits(call: Call) -> Answer:
    found = [
        {
            "id": commit.sha,
            "title": commit.title,
            "message": commit.message,
            "authors": [{"user": commit.author}],
            "date": _date(commit.date),
        }
        for commit in call.repo.history(call.commit("/".join(call.parts)))
    ]
    return _paged(call, found)


def _paged(call: Call, entries: list[dict]) -> Answer:
    asked = {key: values[0] for key, values in parse_qs(call.query).items()}
    first = int(asked.get("cursor", 0))
    last = first + call.hub.page_size
    headers = {"Content-Type": "application/json"}
    if last < len(entries):
        more = f"{call.hub.url}{call.path}?{urlencode(asked | {'cursor': last})}"
        headers["Link"] = f'<{more}>; rel="next"'
    return Answer(200, json.dumps(entries[first:last]).encode(), headers)


def _auth_check(call: Call) -> dict:
    if call.parts == ("write",):
        call.about(call.kind, call.name, (), write=True)
    else:
        _open_gate(call)
    return {}


def _open_gate(call: Call) -> None:
    """Raises where the repository is gated; only its owner is through."""
    if not call.repo.gated or (call.account and call.account.name == call.name.partition("/")[0]):
        return
    message = f"Access to {call.kind} {call.name} is restricted"
    if call.account is None:
        raise Refusal(401, f"{message}. You must be authenticated to access it.", "GatedRepo")
    raise Refusal(403, f"{message} and you are not in the authorized list.", "GatedRepo")


def _resolve(call: Call) -> Answer:
    """The file at revision/path, or the range of its bytes that the headers ask for."""
    _open_gate(call)
    revision, *path = call.parts
    commit = call.commit(revision)
    file = commit.files.get("/".join(path))
    headers = {"X-Repo-Commit": commit.sha, "Accept-Ranges": "bytes"}
    if file is None:
        refusal = Refusal(404, "Entry not found", "EntryNotFound")
        refusal.headers = headers  # the client notes at which commit the file was missing
        raise refusal
    headers |= {"ETag": f'"{file.etag}"', "Content-Type": "application/octet-stream"}
    size = len(file.content)
    if file.lfs:
        headers |= {"X-Linked-Etag": f'"{file.etag}"', "X-Linked-Size": str(size)}
    wanted = call.headers.get("Range")
    if wanted is None:
        return Answer(200, file.content, headers)
    first, _, last = wanted.removeprefix("bytes=").partition("-")
    start = int(first) if first else max(size - int(last), 0)
    end = min(int(last) + 1, size) if first and last else size
    if start >= size:
        refusal = Refusal(416, "Range not satisfiable")
        refusal.headers = {"Content-Range": f"bytes */{size}"}
        raise refusal
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    return Answer(206, file.content[start:end], headers)


# ---- writing a repository ----


def _settings(call: Call) -> dict:
    asked, repo = call.json, call.repo
    if "visibility" in asked:
        repo.private = asked["visibility"] == "private"
    repo.gated = asked.get("gated", repo.gated)
    return {"private": repo.private, "gated": repo.gated}


def _preupload(call: Call) -> dict:
    """How each file is to be sent, whether it is ignored, and what is there under its name."""
    asked, there = call.json, call.commit("/".join(call.parts)).files
    ignored = asked.get("gitIgnore")
    if ignored is None:
        ignored = there[".gitignore"].content.decode() if ".gitignore" in there else ""
    return {
        "files": [
            {
                "path": (path := file["path"]),
                "uploadMode": "lfs" if _goes_to_lfs(call, path, file["size"]) else "regular",
                "shouldIgnore": _is_ignored(path, ignored),
            }
            | ({"oid": there[path].etag} if path in there else {})
            for file in asked["files"]
        ]
    }


def _goes_to_lfs(call: Call, path: str, size: int) -> bool:
    return needs_lfs(path, size, call.hub.lfs_from)


def _is_ignored(path: str, patterns: str) -> bool:
    """By name, path or folder; no `!` and no `**`."""
    lines = [line.strip() for line in patterns.splitlines()]
    lines = [line.strip("/") for line in lines if line and not line.startswith("#")]
    places = [path, *map(str, PurePosixPath(path).parents), *PurePosixPath(path).parts]
    return any(fnmatch(place, line) for line in lines for place in places)


def _commit(call: Call) -> dict:
    """All operations of the body, or none: those that came before a bad one are dropped too."""
    branch, repo = "/".join(call.parts).removeprefix("refs/heads/"), call.repo
    if call.asks_for("create_pr") or branch.startswith("refs/"):
        raise Refusal(400, "Pull requests are left out of this hub")
    head = call.commit(branch)
    if branch not in repo.branches:
        raise Refusal(400, f"{branch} is no branch")
    header, *operations = [json.loads(line) for line in call.body.splitlines()]
    if header["value"].get("parentCommit", head.sha) != head.sha:
        raise Refusal(412, "A commit has happened since. Please refresh and try again.")
    files = dict(head.files)
    for operation in operations:
        _OPERATIONS[operation["key"]](call, files, operation["value"])
    folders = {str(above) for path in files for above in PurePosixPath(path).parents}
    if both := folders & set(files):
        raise Refusal(400, f"{min(both)} is a file and a folder")
    made = repo.commit(
        branch,
        files,
        title=header["value"]["summary"],
        message=header["value"].get("description", ""),
        author=call.account.name,
    )
    url = f"{call.page}/commit/{made.sha}"
    return {"success": True, "commitUrl": url, "commitOid": made.sha, "hookOutput": ""}


def _add_file(call: Call, files: dict[str, File], value: dict) -> None:
    path, content = _checked(value["path"]), b64decode(value["content"])
    if _goes_to_lfs(call, path, len(content)):
        raise Refusal(400, f"Your push was rejected because it contains binary files: {path}")
    if path == "README.md":
        errors, _ = check_card(content.decode(), call.kind)
        if errors:
            raise Refusal(400, "Invalid metadata in README.md", errors=_messages(errors))
    files[path] = File(content)


def _add_lfs_file(call: Call, files: dict[str, File], value: dict) -> None:
    path, content = _checked(value["path"]), call.repo.objects.get(value["oid"])
    if content is None:
        message = "Your push was rejected because an LFS pointer pointed to a file that does not"
        raise Refusal(400, f"{message} exist. Offending file: - {path}")
    files[path] = File(content, lfs=True)


def _delete_file(call: Call, files: dict[str, File], value: dict) -> None:
    if files.pop(value["path"], None) is None:
        raise Refusal(404, "A file with this name doesn't exist", "EntryNotFound")


def _delete_folder(call: Call, files: dict[str, File], value: dict) -> None:
    below = [path for path in files if path.startswith(f"{value['path'].strip('/')}/")]
    if not below:
        raise Refusal(404, "A folder with this name doesn't exist", "EntryNotFound")
    for path in below:
        del files[path]


def _checked(path: str) -> str:
    if not path or set(path.split("/")) & {"", ".", "..", ".git"}:
        raise Refusal(400, f"Invalid path: {path!r}")
    return path


_OPERATIONS: dict[str, Callable[[Call, dict[str, File], dict], None]] = {
    "file": _add_file,
    "lfsFile": _add_lfs_file,
    "deletedFile": _delete_file,
    "deletedFolder": _delete_folder,
}


def _add_branch(call: Call) -> dict:
    name, start = "/".join(call.parts), call.commit(call.json.get("startingPoint") or "main")
    return _add_name(call.repo.branches, name, start)


def _add_tag(call: Call) -> dict:
    return _add_name(call.repo.tags, call.json["tag"], call.commit("/".join(call.parts)))


def _add_name(names: dict[str, str], name: str, commit: Commit) -> dict:
    if name in names:
        raise Refusal(409, f"Reference already exists: {name}")
    names[name] = commit.sha
    return {}


def _delete_branch(call: Call) -> dict:
    if call.parts == ("main",):
        raise Refusal(403, "Cannot delete the default branch")
    return _delete_name(call.repo.branches, "/".join(call.parts))


def _delete_tag(call: Call) -> dict:
    return _delete_name(call.repo.tags, "/".join(call.parts))


def _delete_name(names: dict[str, str], name: str) -> dict:
    if names.pop(name, None) is None:
        raise Refusal(404, f"Invalid rev id: {name}", "RevisionNotFound")
    return {}


_REPO: dict[tuple[str, str], Callable[[Call], object]] = {
    ("GET", ""): _info,
    ("GET", "revision"): _info,
    ("GET", "tree"): _tree,
    ("GET", "refs"): _refs,
    ("GET", "commits"): _commits,
    ("GET", "auth-check"): _auth_check,
    ("POST", "paths-info"): _paths_info,
    ("POST", "preupload"): _preupload,
    ("POST", "commit"): _commit,
    ("POST", "branch"): _add_branch,
    ("POST", "tag"): _add_tag,
    ("PUT", "settings"): _settings,
    ("DELETE", "branch"): _delete_branch,
    ("DELETE", "tag"): _delete_tag,
}


# ---- large files: https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md ----


def _batch(call: Call) -> dict:
    """Where to send each object; nowhere if it is there."""
    asked = call.json
    objects = [_actions(call, entry["oid"], entry["size"]) for entry in asked["objects"]]
    large = any("chunk_size" in _upload_header(entry) for entry in objects)
    return {"transfer": "multipart" if large else "basic", "objects": objects}


def _upload_header(entry: dict) -> dict:
    return entry.get("actions", {}).get("upload", {}).get("header", {})


def _actions(call: Call, oid: str, size: int) -> dict:
    known = {"oid": oid, "size": size, "authenticated": True}
    if oid in call.repo.objects:
        return known
    call.repo.uploads[oid] = Upload(size, {})
    href = f"{call.hub.url}/lfs/{call.kind}/{quote(call.name)}/{oid}"
    upload: dict = {"href": href}
    if size > call.hub.part_size:
        count = ceil(size / call.hub.part_size)
        parts = {str(number): f"{href}/{number}" for number in range(1, count + 1)}
        upload["header"] = {"chunk_size": str(call.hub.part_size)} | parts
    verify = {"href": f"{call.page}.git/info/lfs/objects/verify"}
    return known | {"actions": {"upload": upload, "verify": verify}}


def _verify(call: Call) -> dict:
    asked = call.json
    if len(call.repo.objects.get(asked["oid"], b"")) != asked["size"]:
        raise Refusal(404, f"LFS object {asked['oid']} is not there in its full size")
    return {}


_LFS: dict[str, Callable[[Call], dict]] = {"batch": _batch, "verify": _verify}


def _store(call: Call) -> Answer:
    """Takes an object, a part of one, or the word that all parts are sent.

    Like the signed addresses of the Hub's storage, these are open to whoever was told them.
    """
    oid, *number = call.parts
    upload = call.repo.uploads.get(oid)
    if upload is None and oid in call.repo.objects:
        return Answer(200, b"", {"ETag": f'"{oid}"'})  # sent again: the first answer was lost
    if upload is None:
        raise Refusal(403, "Nobody was told to send this")
    if number:
        upload.parts[int(number[0])] = call.body
        return Answer(200, b"", {"ETag": f'"{hashlib.md5(call.body).hexdigest()}"'})
    content = call.body if call.method == "PUT" else _joined(call, upload)
    if len(content) != upload.size or hashlib.sha256(content).hexdigest() != oid:
        raise Refusal(400, f"The {len(content)} bytes that came are not those of {oid}")
    call.repo.objects[oid] = content
    del call.repo.uploads[oid]
    return Answer(200, b"", {"ETag": f'"{hashlib.md5(content).hexdigest()}"'})


def _joined(call: Call, upload: Upload) -> bytes:
    told = {part["partNumber"]: part["etag"].strip('"') for part in call.json["parts"]}
    held = {number: hashlib.md5(part).hexdigest() for number, part in upload.parts.items()}
    if told != held:
        raise Refusal(400, f"Parts {sorted(told)} were told, {sorted(held)} came")
    return b"".join(part for _, part in sorted(upload.parts.items()))
