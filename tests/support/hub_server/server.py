"""The HTTP server of the Hub: reads requests, injects faults, sends responses."""

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, RLock, Thread
from urllib.parse import unquote, urlsplit

from support.hub_server.calls import Answer, Call, Refusal
from support.hub_server.faults import Fault
from support.hub_server.repos import LFS_FROM, Account, Repo
from support.hub_server.routes import answer

TOKEN = "hf_of_the_tests"
READ_TOKEN = "hf_that_only_reads"
OTHER_TOKEN = "hf_of_another_user"
CUT = 0  # the status in `requests` of a request that was not read to its end


class Hub(ThreadingHTTPServer):
    """Serves `repos`, {("dataset", "user/fruits"): Repo}, until it is closed.

    `requests` are (method, path without query, status) in the order of their answers; status 0
    where the connection was cut while the request was read.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        repos: dict[tuple[str, str], Repo],
        *,
        lfs_from: int = LFS_FROM,
        part_size: int = 5_000_000,
        page_size: int = 1000,
    ):
        """Files of `lfs_from` bytes go to LFS, in parts where they are larger than `part_size`."""
        self.repos = repos
        self.lfs_from, self.part_size, self.page_size = lfs_from, part_size, page_size
        self.accounts = {
            TOKEN: Account("user"),
            READ_TOKEN: Account("user", role="read"),
            OTHER_TOKEN: Account("other"),
        }
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str, int]] = []
        self.lock = RLock()  # one request is worked on at a time
        self.closing = Event()
        self._connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def environment(self, home: Path, token: str | None = TOKEN) -> dict[str, str]:
        """The variables of a process whose clients use this hub, and of the user's own nothing."""
        theirs = ("HF_", "HUGGING", "TRANSFORMERS_")
        known = {key: value for key, value in os.environ.items() if not key.startswith(theirs)}
        known |= {"HF_ENDPOINT": self.url, "HF_HOME": str(home)}
        known |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        return known if token is None else known | {"HF_TOKEN": token}

    def count(self, method: str, part: str, status: int | None = None) -> int:
        """How many requests of this method had `part` in their path, and this status."""
        with self.lock:
            seen = [
                (did, at, got) for did, at, got in self.requests if did == method and part in at
            ]
        return len(seen) if status is None else sum(got == status for *_, got in seen)

    def next_fault(self, method: str, path: str) -> Fault:
        with self.lock:
            struck = (fault for fault in self.faults if fault.strikes(method, path))
            return next(struck, Fault(match=path))

    def process_request(self, request, client_address) -> None:
        with self.lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request) -> None:
        with self.lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request, client_address) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a client that went away is no error
            super().handle_error(request, client_address)

    def server_close(self) -> None:
        """Closes the connections too: a client that keeps one must not talk to a hub of before."""
        self.closing.set()
        super().server_close()
        with self.lock:
            for connection in self._connections:
                _hang_up(connection)


@contextmanager
def serve_hub(repos: dict[tuple[str, str], Repo], **settings: int) -> Iterator[Hub]:
    """A hub that answers until the block ends; its settings are those of `Hub`."""
    hub = Hub(repos, **settings)
    thread = Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()


class _Cut(Exception):
    """The connection is to be cut while the request is read."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body in one go
    server: Hub

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        fault = self.server.next_fault(self.command, url.path)
        try:
            body = self._read_body(fault)
        except _Cut:
            self._note(url.path, CUT)
            self._hang_up()
            return
        if fault.status is not None:
            words = f"A fault of the tests: {fault.status}"
            found = Answer(fault.status, json.dumps({"error": words}).encode(), fault.headers)
        else:
            found = self._answer(url.path, url.query, body)
        self._note(url.path, found.status)
        self.server.closing.wait(fault.delay)
        if fault.lose_answer:
            self._hang_up()
        else:
            self._send(found, cut_after=None if self._has_body else fault.cut_after)

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def log_message(self, *_) -> None:
        pass

    @property
    def _has_body(self) -> bool:
        return self.command in ("POST", "PUT")

    def _answer(self, path: str, query: str, body: bytes) -> Answer:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        parts = tuple(unquote(part) for part in path.strip("/").split("/"))
        method = "GET" if self.command == "HEAD" else self.command
        with self.server.lock:
            try:
                if token and token not in self.server.accounts:
                    raise Refusal(401, "Invalid credentials in Authorization header")
                account = self.server.accounts.get(token)
                return answer(
                    Call(self.server, account, method, path, parts, query, self.headers, body)
                )
            except Refusal as refusal:
                return refusal.answer()

    def _note(self, path: str, status: int) -> None:
        with self.server.lock:
            self.server.requests.append((self.command, path, status))

    def _read_body(self, fault: Fault) -> bytes:
        """The body; raises where the fault cuts it, at the latest at its end."""
        limit = fault.cut_after if self._has_body else None
        body = b"".join(self._pieces(limit))
        if limit is not None:
            raise _Cut
        return body

    def _pieces(self, limit: int | None) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding") != "chunked":
            size = int(self.headers.get("Content-Length", 0))
            yield self._read(size if limit is None else min(size, limit))
            return
        while size := int(self.rfile.readline() or b"0", 16):
            yield self._read(size)
            self.rfile.readline()
        if not self.rfile.readline():  # an empty line ends a whole body
            raise _Cut

    def _read(self, size: int) -> bytes:
        content = self.rfile.read(size)
        if len(content) < size:  # the client went away: half a commit may not count as one
            raise _Cut
        return content

    def _send(self, found: Answer, cut_after: int | None) -> None:
        self.send_response(found.status)
        for name, value in {"Content-Length": str(len(found.content)), **found.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(found.content[:cut_after])
        self.wfile.flush()
        if cut_after is not None:
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        _hang_up(self.connection)


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):  # the client was first
        connection.shutdown(socket.SHUT_RDWR)
