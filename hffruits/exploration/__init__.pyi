from .repair import clean as clean
from .run import Exploration as Exploration
from .run import explore as explore
from .split_dataset import SplitLists as SplitLists
from .split_dataset import split as split
