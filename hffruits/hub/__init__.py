"""The Hub: models, photos and demos pushed, and what is left out of them.

push_model, push_dataset   a model's folder; photos as a cleaned dataset
commit                     one commit to a repository: all of it or nothing
redaction, exif_gps        paths of this machine, and positions in photos, taken out
space, space_check         the demo as a Space, tried before it goes online
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
