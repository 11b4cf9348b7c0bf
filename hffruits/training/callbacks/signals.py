"""SIGTERM and SIGINT (Ctrl-C): a run saves a checkpoint before it exits."""

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

from transformers import TrainerCallback

from hffruits.core.distributed import LOOK_EVERY, any_process, was_launched
from hffruits.core.errors import RunInterruptedError

logger = logging.getLogger(__name__)
SIGNALS = (signal.SIGTERM, signal.SIGINT)
IN_EARNEST = 2.0  # seconds after which a second signal ends at once: launchers send one again


@contextmanager
def ends_at_once() -> Iterator[None]:
    """Within it, SIGTERM and SIGINT raise `RunInterruptedError`: for work saved as it comes."""

    def end(number: int, frame: Any) -> None:
        raise RunInterruptedError(number, None)

    before = _listen(end)
    try:
        yield
    finally:
        _listen_again(before)


class StopOnSignalCallback(TrainerCallback):
    """Within it, SIGTERM and SIGINT end training after the step, with a checkpoint of it.

    All processes end at the same step. A validation that runs, or is due at that step, is finished
    first: a resumed run wouldn't repeat it. A second signal, some seconds later, ends the process
    at once. Raises `RunInterruptedError` once the checkpoint is saved.
    """

    def __init__(self):
        self.received: int | None = None  # by this process
        self.ending = False  # so all processes agreed
        self.checkpoint: Path | None = None
        self._at, self._kept, self._launcher = 0.0, {}, None

    def __enter__(self) -> "StopOnSignalCallback":
        self._kept = _listen(self._receive)
        if was_launched():
            self._launcher = os.getppid()  # accelerate's, of one process, passes no signal on
        return self

    def __exit__(self, kind: type | None, *_: Any) -> None:
        _listen_again(self._kept)
        if kind is None and (self.ending or any_process(self.received is not None)):
            raise self.interruption

    def _receive(self, number: int, frame: Any) -> None:
        now = monotonic()
        if self.received is not None and now - self._at > IN_EARNEST:
            signal.signal(number, self._kept[number])
            signal.raise_signal(number)
            return
        if self.received is None:
            self.received, self._at = number, now
            logger.warning("\n%s: saving a checkpoint before exit", signal.Signals(number).name)

    def on_step_end(self, args, state, control, **kwargs):
        if self.received is None and self._launcher not in (None, os.getppid()):
            self.received = signal.SIGTERM
        if args.world_size > 1 and state.global_step % LOOK_EVERY:
            return
        if any_process(self.received is not None):
            self.ending = control.should_training_stop = True
            control.should_save = not float(state.epoch).is_integer()  # else the epoch's end does

    def on_epoch_end(self, args, state, control, **kwargs):
        control.should_save |= self.ending

    def on_save(self, args, state, control, **kwargs):
        self.checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if self.ending:
            raise self.interruption

    @property
    def interruption(self) -> RunInterruptedError:
        """What to raise."""
        return RunInterruptedError(self.received or signal.SIGTERM, self.checkpoint)


def _listen(receive: Callable[[int, Any], None]) -> dict[int, Any]:
    """Answer `SIGNALS` so from now on; gives how they were answered before."""
    if threading.current_thread() is not threading.main_thread():  # others can't take signals
        return {}
    heard = [n for n in SIGNALS if signal.getsignal(n) != signal.SIG_IGN]  # not what nohup ignores
    return {number: signal.signal(number, receive) for number in heard}


def _listen_again(before: dict[int, Any]) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)
