"""Heavy modules, imported with a notice on the terminal: the first one takes seconds."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from hffruits.core.imports import import_module
from hffruits.core.launch import is_main_process


def load(module: str, *, of: str = "PyTorch and transformers") -> ModuleType:
    """A module of ours; `of` is what it is that takes so long."""
    with _notice(f"Loading {of} ..."):
        return import_module(module)


@contextmanager
def _notice(text: str) -> Iterator[None]:
    """The text on a terminal's stderr, gone afterwards; nothing where PyTorch is there already."""
    shown = "torch" not in sys.modules and is_main_process()
    if not (shown and sys.stderr and sys.stderr.isatty()):
        yield
        return
    print(text, end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        print(f"\r{' ' * len(text)}\r", end="", file=sys.stderr, flush=True)
