"""Git LFS uploads, in one piece or in parts, sent by clients before they commit.

The protocol: https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md. The parts are the
Hub's own addition.
"""

import hashlib
from math import ceil
from urllib.parse import quote

from support.hub_server.calls import Answer, Call, Refusal
from support.hub_server.repos import Upload


def batch(call: Call) -> dict:
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
    call.repo.uploads.setdefault(oid, Upload(size, {}))
    href = f"{call.hub.url}/lfs/{call.kind}/{quote(call.name)}/{oid}"
    upload: dict = {"href": href}
    if size > call.hub.part_size:
        count = ceil(size / call.hub.part_size)
        parts = {str(number): f"{href}/{number}" for number in range(1, count + 1)}
        upload["header"] = {"chunk_size": str(call.hub.part_size)} | parts
    verify = {"href": f"{call.page}.git/info/lfs/objects/verify"}
    return known | {"actions": {"upload": upload, "verify": verify}}


def verify(call: Call) -> dict:
    asked = call.json
    if len(call.repo.objects.get(asked["oid"], b"")) != asked["size"]:
        raise Refusal(404, f"LFS object {asked['oid']} is not there in its full size")
    return {}


def store(call: Call) -> Answer:
    """Takes an object, a part of one, or the word that all parts are sent.

    Like the signed addresses of the Hub's storage, these are open to whoever has them.
    """
    oid, *number = call.parts
    upload = call.repo.uploads.get(oid)
    if upload is None and oid in call.repo.objects:
        return Answer(200, b"", {"ETag": f'"{oid}"'})  # sent again: the first answer was lost
    if upload is None:
        raise Refusal(403, "This upload was not requested")
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
    announced = {part["partNumber"]: part["etag"].strip('"') for part in call.json["parts"]}
    held = {number: hashlib.md5(part).hexdigest() for number, part in upload.parts.items()}
    if announced != held:
        raise Refusal(400, f"Parts {sorted(announced)} were announced, {sorted(held)} came")
    return b"".join(part for _, part in sorted(upload.parts.items()))
