from .comparison import Comparison as Comparison
from .comparison import compare as compare
from .metrics import classification_metrics as classification_metrics
from .run import Evaluation as Evaluation
from .run import evaluate as evaluate
