from .commit import Pushed as Pushed
from .push_dataset import push_data as push_data
from .push_model import push as push
from .space import make_space as make_space
