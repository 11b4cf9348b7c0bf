from .errors import InputError as InputError
from .errors import PeersLostError as PeersLostError
from .errors import RunInterruptedError as RunInterruptedError
