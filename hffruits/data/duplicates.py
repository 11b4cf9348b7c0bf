"""The near-duplicate groups of scanned pictures, looked for once and then kept on disk."""

import hashlib
import logging

import numpy as np

from hffruits.core.cache import cache_root
from hffruits.core.files import optional_cache, write_aside
from hffruits.data.near_duplicates import Fingerprints, group_duplicates

logger = logging.getLogger(__name__)
VERSION = 2  # of the search: raise it when its results change


def known_groups(records: np.ndarray) -> np.ndarray:
    """Group numbers (N,) of `scan_pictures`' records: equal for near-duplicates."""
    key = hashlib.blake2b(records["digest"].tobytes(), digest_size=16).hexdigest()
    file = cache_root() / f"duplicates-v{VERSION}" / f"{key}.i8"
    try:
        groups = np.fromfile(file, np.int64)
        if len(groups) == len(records):
            return groups
    except OSError:
        pass  # not looked for yet
    prints = Fingerprints(records["grey"], records["colour"])
    groups = group_duplicates(prints, records["digest"].tolist())
    with optional_cache(file), write_aside(file) as aside:
        groups.tofile(aside)
    return groups
