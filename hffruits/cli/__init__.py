"""The `hffruits` command: a thin layer over the functions of `import hffruits`.

main      a function for each command: parse, call, print
parser    their flags; the command line as it is recorded
loading   heavy modules, with a notice on the terminal
output    results as text for the terminal
wrapping  lines as wide as the terminal
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
