"""Features of a frozen trunk, computed once and trained on in every epoch.

cache    how many views, and the trainer that learns from them
augment  flips and crops of feature maps
compute  views of images through the frozen part
store    the mapped file, its key and checksums
disk     its limit, eviction and locks
"""
