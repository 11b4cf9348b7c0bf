"""Data-loader workers leave signals to the process that started them, which ends them in time."""

import atexit
import multiprocessing
import re
import signal


def leave_signals(worker: int) -> None:
    """A `worker_init_fn`: Ctrl-C and SIGTERM, sent to a whole group, don't end this worker.

    Else its process could not finish the step and save.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


@atexit.register
def _end_workers() -> None:
    """Kill those that are left: multiprocessing would send them SIGTERM, and wait for ever."""
    for process in multiprocessing.active_children():
        if process.daemon and re.fullmatch(r"Process-[\d:]+", process.name):  # not a pool's
            process.kill()
