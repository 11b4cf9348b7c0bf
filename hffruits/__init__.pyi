from .core.errors import InputError as InputError
from .data.load import load_fruits as load_fruits
from .evaluation.comparison import compare as compare
from .evaluation.run import evaluate as evaluate
from .exploration.run import explore as explore
from .exploration.split_dataset import split as split
from .exporters.run import export as export
from .hub.push_model import push as push
from .inference.classifier import FruitClassifier as FruitClassifier
from .inference.classifier import Prediction as Prediction
from .inference.few_shot import teach as teach
from .training.python_api import train as train

__version__: str
