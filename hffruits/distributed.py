"""Doing something once for all processes of a run."""

from collections.abc import Callable
from typing import Any, TypeVar

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from hffruits.errors import InputError

Result = TypeVar("Result")


def on_main_process(action: Callable[[], Result]) -> Result:
    """Do it once, on the main process, and give every process its result, or its `InputError`."""
    outcome: list[Any] = [None, None]
    if PartialState().is_main_process:
        try:
            outcome[0] = action()
        except InputError as error:
            outcome[1] = error
    if PartialState().num_processes > 1:
        broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]
