"""Requests to the Hub: tried again after passing faults, other errors in one line, no tokens."""

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from huggingface_hub import constants, get_token
from huggingface_hub.errors import (
    BadRequestError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    IncompleteSnapshotError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from hffruits.core.errors import InputError

logger = logging.getLogger(__name__)
T = TypeVar("T")

WAITS = (1, 4, 15)  # seconds before another try
_PASSING = (429, 500, 502, 503, 504)  # answers that may be another one soon
LOG_IN = "Run `hf auth login`, or set HF_TOKEN"
_UNREACHABLE = (HTTPError, ConnectionError, LocalEntryNotFoundError)


def try_again(action: Callable[[], T], name: str, *, token: str | None = None) -> T:
    """What the action returns; it is tried again after a fault of the Hub that may be gone soon.

    `huggingface_hub` itself tries some requests again, but not commits, nor cut answers. What was
    fetched or sent before the fault isn't again.
    """
    for wait in (*WAITS, None):
        try:
            return action()
        except (HTTPError, RuntimeError) as error:
            if wait is None or not _passes(error):
                raise
            logger.warning("%s: %s; trying again in %d s", name, one_line(error, token), wait)
            time.sleep(wait)
    raise AssertionError("the last try returns or raises")


def _passes(error: BaseException) -> bool:
    """True for a fault that may be gone soon; a RuntimeError wraps what an upload met with."""
    cause = error.__cause__ if type(error) is RuntimeError else error
    if isinstance(cause, HfHubHTTPError):
        return cause.response.status_code in _PASSING
    return isinstance(cause, HTTPError)


@contextmanager
def translate_hub_errors(
    name: str, *, kind: str = "model", revision: str | None = None, token: str | None = None
) -> Iterator:
    """What `huggingface_hub` raises, as an `InputError` of one line that never holds a token."""
    try:
        yield
    except InputError:
        raise
    except (OSError, HTTPError, ValueError, RuntimeError) as error:
        wrapped = type(error) in (LocalEntryNotFoundError, RuntimeError)
        cause = error.__cause__ if wrapped else None
        reason = _reason(cause or error, kind, revision, token)
        raise InputError(f"{name}: {reason}") from error


def _reason(error: BaseException, kind: str, revision: str | None, token: str | None) -> str:
    """Why, and what to do about it. The order matters: some are kinds of others."""
    words = one_line(error, token)
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if isinstance(error, IncompleteSnapshotError):
        return "only a part of it is in the cache, and the Hub can't be reached. Try again later."
    if isinstance(error, GatedRepoError):
        return f"gated on the Hub. Accept its terms on its page, then {_lower(LOG_IN)}."
    if isinstance(error, RevisionNotFoundError):
        return f"has no revision {revision}. See its page for them."
    if isinstance(error, HFValidationError):
        return "not a valid Hub id. Give one like user/name."
    if isinstance(error, LocalTokenNotFoundError):
        return f"needs a login. {LOG_IN}."
    if status == 401 and not isinstance(error, RepositoryNotFoundError):
        return f"the Hub rejects this token. {LOG_IN} to another one."
    if isinstance(error, RepositoryNotFoundError):
        remedy = f"{LOG_IN}." if get_token() is None else "Or your token may not see it."
        return f"{_missing(kind)}, or a private one. Check the spelling. {remedy}"
    if status == 403:
        return "this token lacks write access. Use one that has it."
    if status == 412:
        return "changed on the Hub in the meantime. Check what is there, then try again."
    if isinstance(error, BadRequestError | ValueError):
        return f"refused: {words}"
    if isinstance(error, OfflineModeIsEnabled):
        if kind == "repository":
            return "HF_HUB_OFFLINE forbids access to the Hub. Unset it."
        check = "Check the path, or unset it" if kind == "model" else "Unset it"
        return f"{_missing(kind)} in the cache, and HF_HUB_OFFLINE forbids downloads. {check}."
    if status is not None:
        return f"the Hub returned {status} ({words}). Try again later."
    if isinstance(error, _UNREACHABLE):
        where = f"{_missing(kind)} in the cache, and " if kind == "model" else ""
        problem = f"{where}{constants.ENDPOINT} can't be reached ({words})"
        check = "Check the path, or try" if kind == "model" else "Try"
        return f"{problem}. {check} again later."
    return f"can't be read or written ({words})."


def one_line(error: BaseException | str, token: str | None = None) -> str:
    """An error's own words, short and without tokens."""
    text = without_token(" ".join(str(error).split()), token)
    return text[:300] or type(error).__name__


def without_token(text: str, token: str | None = None) -> str:
    """The text with anything that looks like a token, or is one in use, masked."""
    for known in filter(None, (token, get_token())):
        text = text.replace(known, "hf_***")
    return re.sub(r"\bhf_[\w.-]{8,}", "hf_***", text)


def _missing(kind: str) -> str:
    """What was not found: a model may be a folder as well."""
    return f"no such folder, and no such Hub {kind}" if kind == "model" else f"no such Hub {kind}"


def _lower(text: str) -> str:
    return text[0].lower() + text[1:]
