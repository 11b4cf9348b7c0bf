"""Other endpoints of the Hub: whoami, creating, moving and deleting repositories, card checks."""

import json
from dataclasses import replace

from support.hub_server.calls import Answer, Call, Refusal
from support.hub_server.cards import check_card
from support.hub_server.repos import ATTRIBUTES, Repo


def whoami(call: Call) -> dict:
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


def create(call: Call) -> dict:
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


def delete(call: Call) -> dict:
    call = _named(call)
    call = call.about(call.kind, call.name, (), write=True)
    del call.hub.repos[call.kind, call.name]
    return {}


def validate_yaml(call: Call) -> Answer:
    asked = call.json
    errors, warnings = check_card(asked["content"], asked.get("repoType") or "model")
    status = 400 if errors else 200
    if call.headers.get("Accept") == "text/plain":
        lines = [f"- Error: {line}" for line in errors] + [
            f"- Warning: {line}" for line in warnings
        ]
        return Answer(status, "\n".join(lines).encode(), {"Content-Type": "text/plain"})
    shown = {"errors": messages(errors), "warnings": messages(warnings)}
    return Answer(status, json.dumps(shown).encode(), {"Content-Type": "application/json"})


def messages(lines: list[str]) -> list[dict]:
    return [{"message": line} for line in lines]
