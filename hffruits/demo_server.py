"""What stands around the demo's page: a guard at its door, `/health`, a password, a quiet end."""

import atexit
import json
import os
import shutil
import signal
import tempfile
import threading
import time
from collections import deque
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.route_utils import API_PREFIX
from gradio_client.utils import is_http_url_like
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hffruits.errors import InputError
from hffruits.uploads import MAX_PICTURE_BYTES, MAX_PICTURES

MAX_JSON_BYTES = 2**20
MAX_REQUEST_BYTES = MAX_PICTURES * MAX_PICTURE_BYTES // 4  # of an upload of many files
KEPT_SECONDS = 3600  # how long the server keeps a visitor's files, and how often it looks
MAX_KEPT_BYTES = 20 * 10**9  # of all visitors' files, while they are kept
UPLOAD = f"{API_PREFIX}/upload"  # the one route that takes files
LOCAL = ("", "127.0.0.1", "localhost", "::1")


def is_shared(asked: bool) -> bool:
    """Whether there is a public link: if asked for here or by GRADIO_SHARE, and never by itself.

    Gradio, left to decide, makes one on Colab and other hosted notebooks without a word.
    """
    return asked or os.environ.get("GRADIO_SHARE", "").lower() in ("true", "1")


def is_private(shared: bool) -> bool:
    """Whether only people at this computer reach the server; `shared` is what `is_shared` says."""
    return not shared and os.environ.get("GRADIO_SERVER_NAME", "") in LOCAL


def read_auth(given: str | None) -> tuple[str, str] | None:
    """`user:password`, as given or from HFFRUITS_AUTH. Raises `InputError`, and never tells it."""
    text = given or os.environ.get("HFFRUITS_AUTH")
    if not text:
        return None
    user, colon, password = text.partition(":")
    if not (user and colon and password):
        raise InputError("--auth: not of the form user:password. Give both, with a colon between.")
    return user, password


@cache
def temporary_folder() -> Path:
    """Where gradio keeps what visitors send, removed when the process ends: one for the process."""
    if chosen := os.environ.get("GRADIO_TEMP_DIR"):
        return Path(chosen)
    folder = tempfile.mkdtemp(prefix="hffruits-demo-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["GRADIO_TEMP_DIR"] = folder
    return Path(folder)


def bound_statistics() -> None:
    """Gradio sums up its last 10,000 events after each one; slower and larger by the hour.

    Before Blocks are built. GRADIO_ANALYTICS_MAX_EVENTS has the last word.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "100")


def wait_and_stop(demo: gr.Blocks, stopping: threading.Event) -> None:
    """Serve until Ctrl-C or SIGTERM, then let go of visitors and return. Main thread only."""
    caught = threading.Event()
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {one: signal.signal(one, lambda *_: caught.set()) for one in signals}
    try:
        while not caught.wait(0.5):
            pass
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)  # a second Ctrl-C ends it at once
        stopping.set()
        demo.close(verbose=False)


def health_route(facts: dict[str, Any]) -> Route:
    """`/health`, open to all also behind a password; the event loop answers it by itself."""

    async def health(request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"} | facts, headers={"Cache-Control": "no-store"})

    return Route("/health", health)


class _TooMuchError(Exception):
    """An upload has outgrown its bound."""


class Guard:
    """ASGI middleware: bounds what a request holds, and lets the server fetch no address.

    Gradio would download a picture that is given by its URL, and hand on what lies there.
    """

    def __init__(self, app: ASGIApp):
        self.app = app
        self._sent: deque[list[float]] = deque()  # of each upload: when, and how many bytes
        self._bytes = 0  # of all of them

    def _is_full(self) -> bool:
        while self._sent and self._sent[0][0] < time.monotonic() - 2 * KEPT_SECONDS:
            self._bytes -= self._sent.popleft()[1]
        return self._bytes > MAX_KEPT_BYTES

    def _counted(self, receive: Receive) -> Receive:
        """Remembers what an upload brings, and breaks off one that brings too much."""
        upload = [time.monotonic(), 0]
        self._sent.append(upload)

        async def counted() -> Message:
            message = await receive()
            size = len(message.get("body", b""))
            upload[1] += size
            self._bytes += size
            if upload[1] > MAX_REQUEST_BYTES:
                raise _TooMuchError
            return message

        return counted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        path = scope["path"]
        if is_http_url_like(path.partition("=")[2].lstrip("/")) or "/proxy=" in path:
            return await _refuse(403, "No addresses are fetched here.")(scope, receive, send)
        answered = _with_headers(send, path)
        if scope["method"] == "POST" and _route(scope) == UPLOAD:
            if self._is_full():
                return await _refuse(503, "Too many files today.")(scope, receive, send)
            try:
                return await self.app(scope, self._counted(receive), answered)
            except _TooMuchError:
                return await _refuse(413, "Too much at once.")(scope, receive, send)
        if scope["method"] == "POST":
            body = await _read_body(receive, MAX_JSON_BYTES)
            if body is None:
                return await _refuse(413, "Too much at once.")(scope, receive, send)
            if _names_address(body):
                return await _refuse(403, "No addresses are fetched here.")(scope, receive, send)
            receive = _replayed(body, receive)
        return await self.app(scope, receive, answered)


def _route(scope: Scope) -> str:
    """The path below the prefix that a proxy may leave on it (GRADIO_ROOT_PATH)."""
    return scope["path"].removeprefix(scope.get("root_path", "")).rstrip("/")


def _refuse(status: int, reason: str) -> JSONResponse:
    return JSONResponse({"detail": reason}, status)


async def _read_body(receive: Receive, most: int) -> bytes | None:
    """The whole body, or None where it is larger, or its sender is gone."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > most or message["type"] == "http.disconnect":
            return None
        if not message.get("more_body"):
            return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed


def _names_address(body: bytes) -> bool:
    """True for JSON with a web address anywhere but under `url`, where browsers say ours."""
    try:
        waiting = [json.loads(body)]
    except (ValueError, RecursionError):
        return False  # gradio refuses it
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += [one for key, one in value.items() if key != "url"]
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, str) and is_http_url_like(value):
            return True
    return False


def _with_headers(send: Send, path: str) -> Send:
    """No browser guesses at a file's kind, or runs what a visitor has sent."""
    added = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"same-origin")]
    if "/file=" in path:
        added.append((b"content-security-policy", b"sandbox; default-src 'none'; img-src 'self'"))

    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = message | {"headers": [*message["headers"], *added]}
        await send(message)

    return with_headers
