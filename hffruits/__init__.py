"""Fine-tune image models on folders of fruit photos, and know how far to trust them.

Importing this package imports nothing heavy: names load their modules when first used. They are
listed in `__init__.pyi`, for people, editors and type checkers.
"""

import lazy_loader

from hffruits.core.imports import without_collection

__version__ = "0.2.0"
_load_name, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    with without_collection():
        return _load_name(name)
