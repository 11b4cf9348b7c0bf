"""How a command can end but well: each error is one line on the command line, with an exit code."""

import errno
import signal
from pathlib import Path

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)  # what an OSError says of a full disk, or of a full quota


class InputError(ValueError):
    """Something the user gave cannot be used. The message holds value, reason and remedy."""

    code = 2


class PeersLost(Exception):
    """Another process of the run, or its machine, doesn't answer any more."""

    code = 75  # EX_TEMPFAIL of sysexits.h: starting it again may help


class Interrupted(Exception):
    """A signal has ended a run, and nothing is lost. `code` is the shell's exit code for it."""

    def __init__(self, number: int, checkpoint: Path | None):
        self.code, self.checkpoint = 128 + number, checkpoint
        saved = f": {checkpoint} is saved" if checkpoint else ""
        again = "the same command" + (" with --resume_from_checkpoint" if checkpoint else "")
        super().__init__(f"ended by {signal.Signals(number).name}{saved}; {again} goes on.")
