from .core.errors import InputError as InputError
from .data.load import load_fruits as load_fruits
from .inference.classifier import FruitClassifier as FruitClassifier
from .inference.classifier import Prediction as Prediction
from .models.loading import build_model as build_model
from .training.python_api import train as train

__version__: str
