"""Routes of the Hub server: which function handles which path of huggingface_hub's `HfApi`."""

import json
from collections.abc import Callable
from dataclasses import replace

from support.hub_server import large_files, reading, site, writing
from support.hub_server.calls import Answer, Call, Refusal
from support.hub_server.repos import KINDS

_SITE: dict[tuple[str, str], Callable[[Call], object]] = {
    ("GET", "whoami-v2"): site.whoami,
    ("POST", "repos/create"): site.create,
    ("DELETE", "repos/delete"): site.delete,
    ("POST", "validate-yaml"): site.validate_yaml,
}
_REPO: dict[tuple[str, str], Callable[[Call], object]] = {
    ("GET", ""): reading.info,
    ("GET", "revision"): reading.info,
    ("GET", "tree"): reading.tree,
    ("GET", "refs"): reading.refs,
    ("GET", "commits"): reading.commits,
    ("GET", "auth-check"): reading.auth_check,
    ("POST", "paths-info"): reading.paths_info,
    ("POST", "preupload"): writing.preupload,
    ("POST", "commit"): writing.commit,
    ("POST", "branch"): writing.add_branch,
    ("POST", "tag"): writing.add_tag,
    ("PUT", "settings"): writing.settings,
    ("DELETE", "branch"): writing.delete_branch,
    ("DELETE", "tag"): writing.delete_tag,
}
_LFS: dict[str, Callable[[Call], dict]] = {
    "batch": large_files.batch,
    "verify": large_files.verify,
}


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
            return large_files.store(
                replace(call, kind=kind, name=f"{user}/{name}", parts=tuple(rest))
            )
        case (kinds, user, name, *rest) if kinds in ("datasets", "spaces"):
            return _page(call, KINDS[kinds], user, name, rest)
        case (user, name, *rest):
            return _page(call, "model", user, name, rest)
    raise Refusal(404, "Sorry, we can't find the page you are looking for.")


def _page(call: Call, kind: str, user: str, name: str, rest: list[str]) -> object:
    match call.method, rest:
        case "GET", ["resolve", revision, *path]:
            return reading.resolve(call.about(kind, f"{user}/{name}", (revision, *path)))
        case "POST", ["info", "lfs", "objects", action] if name.endswith(".git"):
            repo = f"{user}/{name.removesuffix('.git')}"
            return _LFS[action](call.about(kind, repo, (), write=True))
    raise Refusal(404, "Sorry, we can't find the page you are looking for.")
