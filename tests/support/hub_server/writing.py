"""Write endpoints of a repository: commits, branches, tags, settings. No pull requests."""

import json
from base64 import b64decode
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import PurePosixPath

from support.hub_server.calls import Call, Refusal
from support.hub_server.cards import check_card
from support.hub_server.repos import Commit, File, needs_lfs
from support.hub_server.site import messages


def settings(call: Call) -> dict:
    asked, repo = call.json, call.repo
    if "visibility" in asked:
        repo.private = asked["visibility"] == "private"
    repo.gated = asked.get("gated", repo.gated)
    return {"private": repo.private, "gated": repo.gated}


def preupload(call: Call) -> dict:
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


def commit(call: Call) -> dict:
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
            raise Refusal(400, "Invalid metadata in README.md", errors=messages(errors))
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


def add_branch(call: Call) -> dict:
    name, start = "/".join(call.parts), call.commit(call.json.get("startingPoint") or "main")
    return _add_name(call.repo.branches, name, start)


def add_tag(call: Call) -> dict:
    return _add_name(call.repo.tags, call.json["tag"], call.commit("/".join(call.parts)))


def _add_name(names: dict[str, str], name: str, commit: Commit) -> dict:
    if name in names:
        raise Refusal(409, f"Reference already exists: {name}")
    names[name] = commit.sha
    return {}


def delete_branch(call: Call) -> dict:
    if call.parts == ("main",):
        raise Refusal(403, "Cannot delete the default branch")
    return _delete_name(call.repo.branches, "/".join(call.parts))


def delete_tag(call: Call) -> dict:
    return _delete_name(call.repo.tags, "/".join(call.parts))


def _delete_name(names: dict[str, str], name: str) -> dict:
    if names.pop(name, None) is None:
        raise Refusal(404, f"Invalid rev id: {name}", "RevisionNotFound")
    return {}
