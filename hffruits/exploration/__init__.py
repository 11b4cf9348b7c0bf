"""Data exploration: findings and the data report; repairs and split lists.

run             exploring: scan, features, checks; `hffruits explore`
report          the page: findings, classes, histograms, a map
findings        the checks and their findings
label_errors    label errors, outliers and the map, by features
embeddings      features of a pretrained backbone
sampling        which rows are shown or embedded
stream_scan     scanning a stream in one pass
repair          what is better left out, and a copy without it
split_dataset   split lists, k-fold too; `hffruits split`
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
