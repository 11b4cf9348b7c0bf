"""The demo's port: the one asked for or none, else the first free one from 7860.

Gradio by itself goes on to another port without a word, also where one was asked for. Imports no
gradio, which can't even be imported while GRADIO_SERVER_PORT is no number.
"""

import os
import socket

from hffruits.core.errors import InputError, short_reason

DEFAULT_PORT = 7860
TRIED = 100  # ports, where none is asked for
VARIABLE = "GRADIO_SERVER_PORT"


def choose_port(asked: int | None = None) -> int:
    """A port that is free now: `asked`, or that of GRADIO_SERVER_PORT, or any from 7860 on.

    Raises `InputError` for one that is taken or can't be.
    """
    named = f"port={asked}"
    if asked is None and (text := os.environ.get(VARIABLE)):
        named = f"{VARIABLE}={text}"
        asked = int(text) if text.strip().isdecimal() else 0
    if asked is None:
        ports = range(DEFAULT_PORT, DEFAULT_PORT + TRIED)
        free = next((port for port in ports if not _reason_against(port)), None)
        if free is None:
            last = DEFAULT_PORT + TRIED - 1
            raise InputError(
                f"the ports {DEFAULT_PORT} to {last} are taken. Choose another with --port."
            )
        return free
    if not 0 < asked < 2**16:
        raise InputError(f"{named}: not a port. Give a number from 1 to 65535.")
    if reason := _reason_against(asked):
        raise InputError(
            f"{named}: can't be used ({reason}). Choose another with --port or {VARIABLE}, or stop "
            "what serves there."
        )
    return asked


def _reason_against(port: int) -> str:
    """Why nothing can be served there; empty where it can."""
    host = os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            if os.name != "nt":  # there it would share the port of another program
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host.strip("[]"), port))
    except OSError as error:
        return short_reason(error)
    return ""
