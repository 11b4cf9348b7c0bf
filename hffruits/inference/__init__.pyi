from .batch_predict import label_into_table as label_into_table
from .classifier import Explanation as Explanation
from .classifier import FruitClassifier as FruitClassifier
from .classifier import Prediction as Prediction
from .classifier import UnreadableImageError as UnreadableImageError
from .few_shot import save_taught as save_taught
from .few_shot import teach as teach
