"""The server of the demo's page: a guard against hostile requests, `/health`, login, shutdown."""

import json
import logging
import os
import re
import signal
import sys
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr
from gradio.route_utils import API_PREFIX
from gradio_client.utils import is_http_url_like
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hffruits.core.errors import DISK_FULL, InputError, short_reason
from hffruits.core.escaping import is_unicode
from hffruits.demo.multipart import FilePartsOnly
from hffruits.demo.upload_folder import UploadFolder
from hffruits.demo.uploads import MAX_IMAGE_BYTES, MAX_IMAGES, NOT_SENT

logger = logging.getLogger(__name__)
MAX_LOGGED = 300  # characters of an error
MAX_JSON_BYTES = 2**20
MAX_SESSION_NAME = 64  # characters, which gradio logs
MAX_REQUEST_BYTES = MAX_IMAGES * MAX_IMAGE_BYTES // 10  # of an upload of many files
RETENTION_SECONDS = 3600  # of visitors' files, swept as often, and of their unused taught models
UPLOAD = f"{API_PREFIX}/upload"  # the one route that takes files
# A stranger's model card or report could ask visitors' browsers for any address.
PAGE_POLICY = b"; ".join(
    kind + b"-src 'self' data: blob:" for kind in (b"img", b"media", b"connect")
)
FILE_POLICY = b"sandbox; default-src 'none'; img-src 'self'"
# What the page and gradio_client send. Gradio has more, of which some run ffmpeg or write files.
POSTED = re.compile(rf"/login|{API_PREFIX}/(upload|queue/join|cancel|reset|(run|api|call)/.+)")
# The first writes what is asked for, the second logs what it is sent, the last is the developer's.
UNNEEDED = ("deep_link", "custom_component", "dev/reload")
LOCAL = ("", "127.0.0.1", "localhost", "::1")


def is_shared(asked: bool) -> bool:
    """Whether there is a public link: if asked for here or by GRADIO_SHARE, and never by itself.

    Gradio, left to decide, makes one on Colab and other hosted notebooks without asking.
    """
    return asked or os.environ.get("GRADIO_SHARE", "").lower() in ("true", "1")


def is_private(shared: bool) -> bool:
    """Whether only people at this computer reach the server; `shared` is what `is_shared` says."""
    return not shared and os.environ.get("GRADIO_SERVER_NAME", "") in LOCAL


def read_auth(given: str | None) -> tuple[str, str] | None:
    """`user:password`, as given or from HFFRUITS_AUTH. The `InputError` never holds it."""
    text = given or os.environ.get("HFFRUITS_AUTH")
    if not text:
        return None
    user, colon, password = text.partition(":")
    if not (user and colon and password):
        raise InputError("auth: not of the form user:password. Give both, with a colon between.")
    return user, password


def bound_statistics() -> None:
    """Gradio sums up its last 10,000 events after each one; slower and larger by the hour.

    Before Blocks are built. GRADIO_ANALYTICS_MAX_EVENTS has the last word.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "100")


def log_errors_in_a_line(record: logging.LogRecord) -> bool:
    """A filter: a request that the server fails on leaves a line, not the kilobytes of a traceback.

    Gradio raises for functions, pages and sessions that don't exist, so anybody could fill the log.
    """
    if record.exc_info and record.exc_info[1]:
        error = record.exc_info[1]
        text = " ".join(f"{record.getMessage()} ({type(error).__name__}: {error})".split())
        logger.debug("%s", text[:MAX_LOGGED], exc_info=record.exc_info)
        record.msg, record.args, record.exc_info = text[:MAX_LOGGED], (), None
    return True


def has_display() -> bool:
    """Whether a browser can open a window: elsewhere one in text mode would take the terminal."""
    remote = os.environ.get("SSH_CONNECTION")
    if os.name == "nt" or sys.platform == "darwin":
        return not remote
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def announce(demo: gr.Blocks, *, shared: bool, open_browser: bool) -> None:
    """Say where the page is, and open it if asked to and there is a display."""
    logger.info("Demo      serves at %s (Ctrl-C ends it)", demo.share_url or demo.local_url)
    if is_private(shared):
        logger.info("Public    only with share=True: a link for others, for a week at most")
    if open_browser and has_display():
        webbrowser.open(demo.share_url or demo.local_url)


@contextmanager
def translate_launch_errors(port: int) -> Iterator[None]:
    """Within it, a page that can't be served is an `InputError`; gradio speaks of its arguments.

    A full disk, in whose temporary folder gradio writes, passes on.
    """
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            raise
        # gradio's own, without a number, hides what the server failed on
        reason = short_reason(error) if error.errno else "taken meanwhile, or the server failed"
        raise InputError(
            f"port={port}: can't be served at ({reason}). Try again, or choose another port."
        ) from error
    except ValueError as error:
        if "localhost is not accessible" not in str(error):
            raise
        raise InputError(
            f"http://127.0.0.1:{port}/: can't be reached from here, or fails, as logged above. "
            "Behind a proxy set NO_PROXY=127.0.0.1, or make a public link with share=True."
        ) from error


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


class _RefusedError(Exception):
    """A request is refused, with this status and reason."""


_TOO_MUCH = 413, "Too much at once."
_FULL = 503, "Too many files are stored here right now. Try again in an hour."
_NO_ADDRESS = 403, "URLs are not fetched here."
_NO_FILE = 403, f"This file can't be read: {NOT_SENT}. Send it again."
_NO_ROUTE = 404, "Not Found"
_NO_JSON = 400, "No JSON."
_NO_FILES = 400, "Only files are uploaded here, as multipart/form-data."


class Guard:
    """ASGI middleware: bounds what a request holds, and what of the server it may name.

    A file can be named, letter by letter, where `/upload` gave out its path or the page did: what
    else there is, and whether it is, nobody learns. Gradio by itself opens links below its folder,
    and downloads an image that is given by its URL.
    """

    def __init__(self, app: ASGIApp, demo: gr.Blocks, folder: UploadFolder):
        self.app, self.demo, self.folder = app, demo, folder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        try:
            self._check_path(scope["path"])
            if scope["method"] == "POST":
                receive = await self._checked(scope, receive)
            await self.app(scope, receive, _with_headers(send, scope["path"]))
        except _RefusedError as refused:
            status, reason = refused.args
            await JSONResponse({"detail": reason}, status)(scope, receive, send)

    def _check_path(self, path: str) -> None:
        if is_http_url_like(path.partition("=")[2].lstrip("/")) or "/proxy=" in path:
            raise _RefusedError(*_NO_ADDRESS)
        if any(f"{API_PREFIX}/{route}" in path for route in UNNEEDED):
            raise _RefusedError(*_NO_ROUTE)
        named = path.partition("/file=")[2] or path.partition(f"{API_PREFIX}/file/")[2]
        if named and not any(named in files for files in self.demo.temp_file_sets):
            raise _RefusedError(*_NO_FILE)

    async def _checked(self, scope: Scope, receive: Receive) -> Receive:
        """What is received, bounded, of a request that may be sent."""
        route = route_of(scope)
        if not POSTED.fullmatch(route):
            raise _RefusedError(*_NO_ROUTE)
        if route == UPLOAD:
            await run_in_threadpool(self.folder.measure)
            return self._counted(receive, _parts(scope))
        body = await _read_body(receive, MAX_JSON_BYTES)
        if route != "/login":  # that is a form
            self._check_body(body)
        return _replayed(body, receive)

    def _counted(self, receive: Receive, parts: FilePartsOnly) -> Receive:
        """Counts what an upload brings; breaks off one with too much, or with other than files."""
        received = 0

        async def counted() -> Message:
            nonlocal received
            if self.folder.is_full():
                raise _RefusedError(*_FULL)
            message = await receive()
            body = message.get("body", b"")
            received += len(body)
            self.folder.add(len(body))
            if received > MAX_REQUEST_BYTES:
                raise _RefusedError(*_TOO_MUCH)
            try:
                parts.write(body)
            except ValueError as error:
                raise _RefusedError(*_NO_FILES) from error
            return message

        return counted

    def _check_body(self, body: bytes) -> None:
        try:
            values = list(_values(json.loads(body)))
        except (ValueError, RecursionError) as error:
            raise _RefusedError(*_NO_JSON) from error
        for key, value in values:
            # under `url` browsers say our own address
            if key != "url" and isinstance(value, str) and is_http_url_like(value):
                raise _RefusedError(*_NO_ADDRESS)
            if key == "path" and not self._may_name(value):
                raise _RefusedError(*_NO_FILE)
            if key == "session_hash" and len(str(value)) > MAX_SESSION_NAME:
                raise _RefusedError(*_TOO_MUCH)
            if not all(is_unicode(text) for text in (key, value) if isinstance(text, str)):
                raise _RefusedError(*_NO_JSON)

    def _may_name(self, path: Any) -> bool:
        examples = (block.keep_in_cache for block in self.demo.blocks.values())
        known = (self.demo.upload_file_set, *examples)
        return isinstance(path, str) and any(path in files for files in known)


def route_of(scope: Scope) -> str:
    """The path below the prefix that a proxy may leave on it (GRADIO_ROOT_PATH)."""
    return scope["path"].removeprefix(scope.get("root_path", "")).rstrip("/")


def _parts(scope: Scope) -> FilePartsOnly:
    kinds = (value for name, value in scope["headers"] if name == b"content-type")
    try:
        return FilePartsOnly(next(kinds, b""))
    except ValueError as error:
        raise _RefusedError(*_NO_FILES) from error


async def _read_body(receive: Receive, most: int) -> bytes:
    """The whole body, of a sender who stays to the end."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > most or message["type"] == "http.disconnect":
            raise _RefusedError(*_TOO_MUCH)
        if not message.get("more_body"):
            return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed


def _values(record: Any) -> Iterator[tuple[str, Any]]:
    """Every value in a JSON record, at any depth, with the key that it or its list stands under."""
    waiting = [("", record)]
    while waiting:
        key, value = waiting.pop()
        yield key, value
        if isinstance(value, dict):
            waiting += value.items()
        elif isinstance(value, list):
            waiting += [(key, one) for one in value]


def _with_headers(send: Send, path: str) -> Send:
    """No browser guesses at a file's kind, runs what a visitor sent, or loads images elsewhere."""
    policy = FILE_POLICY if "/file=" in path else PAGE_POLICY
    added = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"same-origin")]
    added.append((b"content-security-policy", policy))

    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = message | {"headers": [*message["headers"], *added]}
        await send(message)

    return with_headers
