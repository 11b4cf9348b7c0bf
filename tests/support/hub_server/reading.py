"""Read endpoints of a repository: its info, listings, history and file contents."""

import hashlib
import json
from datetime import datetime
from pathlib import PurePosixPath
from urllib.parse import parse_qs, urlencode

import yaml

from support.hub_server.calls import Answer, Call, Refusal
from support.hub_server.cards import read_metadata
from support.hub_server.repos import Commit, File


def info(call: Call) -> dict:
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


def tree(call: Call) -> Answer:
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


def paths_info(call: Call) -> list[dict]:
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


def refs(call: Call) -> dict:
    branches = _named_commits("heads", call.repo.branches)
    tags = _named_commits("tags", call.repo.tags)
    return {"branches": branches, "tags": tags, "converts": [], "pullRequests": []}


def _named_commits(kind: str, names: dict[str, str]) -> list[dict]:
    return [
        {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": sha}
        for name, sha in names.items()
    ]


def commits(call: Call) -> Answer:
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


def auth_check(call: Call) -> dict:
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


def resolve(call: Call) -> Answer:
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
