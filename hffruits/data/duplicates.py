"""The near-duplicate groups of scanned pictures, looked for once and then kept on disk."""

import hashlib
import logging
import os
from contextlib import suppress

import numpy as np

from hffruits.core.cache import cache_root
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
    aside = file.with_name(f".{file.stem}-{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        groups.tofile(aside)
        aside.replace(file)
    except OSError as error:
        with suppress(OSError):
            aside.unlink()
        logger.warning("%s: can't be written (%s)", file, error.strerror or error)
    return groups
