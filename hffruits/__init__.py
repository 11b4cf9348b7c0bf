"""Fine-tune image models on folders of fruit photos, and know how far to trust them.

Importing this package imports nothing heavy: names load their modules when first used. They are
listed in `__init__.pyi`, for people, editors and type checkers.
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
