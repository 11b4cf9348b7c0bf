from .repair import clean as clean
from .run import explore as explore
from .split_dataset import split as split
