"""Errors that end a command, each with one line and an exit code; optional outputs, which don't."""

import errno
import logging
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

logger = logging.getLogger(__name__)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # of a terminal
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)  # what an OSError says of a full disk, or of a full quota


class InputError(ValueError):
    """The user's input can't be used; the message holds value, reason and remedy.

    A `ValueError` whose text is one line. The command prints it and exits with `code`.

    >>> import hffruits
    >>> hffruits.train("fruits", epochs=3)
    Traceback (most recent call last):
    hffruits.core.errors.InputError: unknown: epochs=3 (did you mean num_train_epochs?)
    """

    code = 2


class PeersLostError(Exception):
    """Another process of the run, or its machine, doesn't answer any more."""

    code = 75  # EX_TEMPFAIL of sysexits.h: starting it again may help


class RunInterruptedError(Exception):
    """A signal has ended a run, and nothing is lost. `code` is the shell's exit code for it."""

    def __init__(self, number: int, checkpoint: Path | None):
        self.code, self.checkpoint = 128 + number, checkpoint
        saved = f": {checkpoint} is saved" if checkpoint else ""
        again = "the same command" + (" with resume_from_checkpoint" if checkpoint else "")
        super().__init__(f"ended by {signal.Signals(number).name}{saved}; {again} resumes it.")


def short_reason(error: BaseException) -> str:
    """An error's own words in one line, without colours; the system's without its number.

    Never nothing.
    """
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return plain_line(text) or type(error).__name__


def plain_line(text: str) -> str:
    """A foreign text in one line of at most 300 characters, without colours."""
    return " ".join(_COLOURS.sub("", text).split())[:300]


class FewWarnings:
    """Warnings of one kind that may come for each of many files: the first ones, then no more."""

    MOST = 10

    def __init__(self, log: logging.Logger):
        self.log, self.count = log, 0

    def warn(self, text: str, *values: object) -> None:
        self.count += 1
        if self.count <= self.MOST:
            self.log.warning(text, *values)
        elif self.count == self.MOST + 1:
            self.log.warning("there are more of these, which are not listed")


@contextmanager
def optional_output(output: str | Path, *, remedy: str) -> Iterator[None]:
    """Within it, whatever fails costs only this output: one warning says what, why and the remedy.

    For pages, plots and cards, after the records have been written. The only place where
    every `Exception` ends (`added_to_errors` passes them on): large libraries make these of other
    people's text and files, so nobody can list what may fail, and all that was computed before is
    worth more. A file that is `output` and failed is removed, so that neither half of it nor an
    earlier one is taken for it. Signals, lost processes and Ctrl-C pass.
    """
    try:
        yield
    except (RunInterruptedError, PeersLostError):
        raise
    except Exception as error:
        if isinstance(output, Path):
            with suppress(OSError):
                output.unlink(missing_ok=True)
        kind, reason = type(error).__name__, short_reason(error)
        said = kind if reason == kind else f"{kind}: {reason}"
        logger.warning("%s: not made (%s). %s", output, said, remedy)
        logger.debug("%s", output, exc_info=True)


@contextmanager
def added_to_errors(hint: str) -> Iterator[None]:
    """Within it, an error says this too: what is saved already, and how to do the rest later."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{error} {hint}") from error
    except Exception as error:
        error.add_note(hint)
        raise
