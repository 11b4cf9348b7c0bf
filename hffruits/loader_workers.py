"""Data-loader workers leave signals to the process that they work for, which ends them in time."""

import multiprocessing
import os
import signal
import threading


def leave_signals(worker: int) -> None:
    """A `worker_init_fn`: Ctrl-C and SIGTERM, sent to a whole group, don't end this worker.

    Else its process couldn't finish the step and save. That process itself can still end it; on
    macOS and Windows, where nobody can tell who sent it, SIGTERM ends it as ever.
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
