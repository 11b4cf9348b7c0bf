"""Fine-tune image models on folders of fruit photos, and know how far to trust them.

Importing this package imports nothing heavy: names load their modules when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hffruits.core.errors import InputError as InputError
    from hffruits.data.load import load_fruits as load_fruits
    from hffruits.inference.classifier import FruitClassifier as FruitClassifier
    from hffruits.inference.classifier import Prediction as Prediction
    from hffruits.models.loading import build_model as build_model

__version__ = "0.1.0"

_MODULE_OF = {
    "FruitClassifier": "inference.classifier",
    "InputError": "core.errors",
    "Prediction": "inference.classifier",
    "build_model": "models.loading",
    "load_fruits": "data.load",
}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"hffruits.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
