"""The demo's port: the one asked for or none, else the first free one from 7860.

Gradio by itself goes on to another port without a word, also where one was asked for. Imports no
gradio, which can't even be imported while GRADIO_SERVER_PORT is no number.
"""

import os
import re
import socket

from hffruits.core.errors import InputError, short_reason
from hffruits.core.escaping import shorten

DEFAULT_PORT = 7860
TRIED = 100  # ports, where none is asked for
VARIABLE = "GRADIO_SERVER_PORT"
HOST_VARIABLE = "GRADIO_SERVER_NAME"


def choose_port(asked: int | None = None) -> int:
    """A port that is free now: `asked`, or that of GRADIO_SERVER_PORT, or any from 7860 on.

    Raises `InputError` for one that is taken or can't be, and for a GRADIO_SERVER_NAME that is no
    address of this machine.
    """
    named = f"port={asked}"
    if asked is None and (text := os.environ.get(VARIABLE)):
        named = f"{VARIABLE}={shorten(text)}"
        asked = int(text) if re.fullmatch(r"\s*[0-9]{1,5}\s*", text) else 0
    if asked is not None and not 0 < asked < 2**16:
        raise InputError(f"{named}: not a port. Give a number from 1 to 65535.")
    family, host = _own_address()
    if asked is None:
        ports = range(DEFAULT_PORT, DEFAULT_PORT + TRIED)
        free = next((port for port in ports if not _reason_against(family, host, port)), None)
        if free is None:
            last = DEFAULT_PORT + TRIED - 1
            raise InputError(f"the ports {DEFAULT_PORT} to {last} are taken. Set port to another.")
        return free
    if reason := _reason_against(family, host, asked):
        raise InputError(
            f"{named}: can't be used ({reason}). Choose another, or stop what serves there."
        )
    return asked


def _own_address() -> tuple[int, str]:
    """Family and number of the address that is served at, looked up once."""
    name = os.environ.get(HOST_VARIABLE) or "127.0.0.1"
    family = socket.AF_INET6 if ":" in name else socket.AF_INET  # as gradio takes it
    try:
        host = socket.getaddrinfo(name.strip("[]"), None, family, socket.SOCK_STREAM)[0][4][0]
        reason = _reason_against(family, host, 0)  # any port
    except (OSError, UnicodeError) as error:
        reason = short_reason(error)
    if reason:
        raise InputError(
            f"{HOST_VARIABLE}={name}: can't be served at ({reason}). Use 127.0.0.1, or 0.0.0.0 for "
            "all that reach this machine."
        )
    return family, host


def _reason_against(family: int, host: str, port: int) -> str:
    """Why nothing can be served there; empty where it can."""
    try:
        with socket.socket(family) as probe:
            if os.name != "nt":  # there it would share the port of another program
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        return short_reason(error)
    return ""
