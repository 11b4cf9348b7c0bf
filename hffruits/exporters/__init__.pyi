from .formats import FORMATS as FORMATS
from .run import export as export
