"""Heavy modules, imported in less time, with garbage collection paused.

PyTorch and transformers make a million objects and none to throw away; looking through them again
and again takes a tenth of the time or more.
"""

import gc
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def without_collection() -> Iterator[None]:
    """No garbage is collected, unless that was so before."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def import_module(name: str) -> ModuleType:
    """`importlib.import_module`, without collecting garbage."""
    with without_collection():
        return importlib.import_module(name)
