"""DataLoader workers: they leave signals to their process, and killed ones raise a clear error."""

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from hffruits.core.errors import InputError


class WorkersLostError(InputError):
    """A DataLoader worker was killed."""


@contextmanager
def translate_worker_errors(remedy: str) -> Iterator[None]:
    """Within it, a killed worker is an error with this remedy; a worker's `InputError` is raised.

    PyTorch puts a traceback into the latter's text.
    """
    try:
        yield
    except InputError as error:
        lines = str(error).splitlines()
        if len(lines) < 3 or "Original Traceback" not in lines[1]:
            raise
        raise InputError(lines[-1].split(": ", 1)[-1]) from error
    except (RuntimeError, OSError, EOFError) as error:
        # killed before its tensors were fetched, it leaves a connection to nobody
        fetching = "resource_sharer" in "".join(traceback.format_exception(error))
        if "DataLoader worker" not in str(error) and not fetching:
            raise
        raise WorkersLostError(
            f"a DataLoader worker was killed, probably out of memory. {remedy}"
        ) from error


def leave_signals(worker: int) -> None:
    """A `worker_init_fn`: Ctrl-C and SIGTERM, sent to a whole group, don't end this worker.

    Else its process couldn't finish the step and save. That process itself can still end it; on
    macOS and Windows, where the sender is unknown, SIGTERM ends it as ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_wait_for_the_end, daemon=True).start()


def _wait_for_the_end() -> None:
    served = multiprocessing.parent_process().pid
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != served:
        pass
    os._exit(0)
