"""Data: from input formats to validated, labelled, split images, and their transforms.

arguments           `DataArguments`: which photos, how they are read, split and augmented
parser              command lines about data: one-line errors, short help
load                `load_fruits`: all of it, as a `DatasetDict`
split_protocol      `Sample` and `Split`: what map-style and streamed splits have in common
sources, readers/   folders, archives, tables, WebDataset shards, Hub datasets as standard rows
pixel_limit         how large a photo may be
images              which files are images; one file as an upright RGB image
scan                every image read once and measured; the measurements are cached
validation          rows with a label and a readable image; what is left out is listed
near_duplicates     groups of near-duplicates
splits              splits made without leaks, or repeated from lists
class_hierarchy     coarse labels, from folders or a file
image_cache         photos decoded or shrunk once
transforms          augmentation for training; the checkpoint's own preprocessing for the rest
samplers            order and augmentation by seed, epoch and index
stream_dataset      `load_streams`: splits of data larger than the disk
stream_index, stream_rows  their rows counted, and dealt out to processes and workers
samples             the sample set: photos that lie in the package
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
