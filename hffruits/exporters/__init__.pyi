from .formats import FORMATS as FORMATS
from .run import Export as Export
from .run import export as export
