"""Progress bars: tqdm's own in a terminal or a notebook, now and then a whole line in a log.

A log is a standard error that is no terminal: a file, CI, SLURM. It gets no carriage returns.
"""

import sys
import time
from typing import Any

from tqdm.asyncio import tqdm_asyncio
from tqdm.auto import tqdm

from hffruits.core.durations import format_duration

LOGGED_EVERY = 60.0  # seconds without any other line of ours


def progress_bar(*args: Any, **options: Any) -> tqdm:
    """What `tqdm(*args, **options)` is, as the place that it is written to can show it."""
    in_notebook = tqdm is not tqdm_asyncio
    shown = in_notebook or (sys.stderr is not None and sys.stderr.isatty())
    return (tqdm if shown else _LoggedProgress)(*args, **options)


class _LoggedProgress(tqdm):
    """Progress as lines: where it is, how long that took, and what is left."""

    def __init__(self, *args: Any, **options: Any):
        self._logged = time.monotonic()
        super().__init__(*args, **options | {"leave": False})

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """A line, unless there was one a short while ago. False: there is nothing to clear."""
        now = time.monotonic()
        if msg is None and now - self._logged >= LOGGED_EVERY:
            self._logged = now
            passed, new = self.format_dict["elapsed"], self.n - self.initial
            line = f"{self.desc.removesuffix(': ')}: {self.n:,}"
            if self.total and new:
                left = passed * (self.total - self.n) / new
                line += f" of {self.total:,}, {format_duration(left)} left"
            self.fp.write(f"{line}, {format_duration(passed)} so far\n")
            self.fp.flush()
        return False

    def clear(self, nolock: bool = False) -> None:
        """Called before another line is written, which shows that there is progress."""
        self._logged = time.monotonic()
