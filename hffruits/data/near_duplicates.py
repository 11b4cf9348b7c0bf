"""Near-duplicates: one photo recompressed, resized, relit, mirrored or cropped by some 5 %.

Candidates come from an approximate nearest-neighbour index, so the work grows about as fast as the
number of images; each is then compared at its best alignment. Takes thumbnails; groups that were
found are cached on disk.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from hffruits.core.cache import cache_root
from hffruits.core.files import optional_cache, write_aside
from hffruits.core.progress import progress_bar
from hffruits.data.images import decoder_versions

VERSION = 2  # of the search: raise it when its results change

GREY_SIZE, COLOUR_SIZE = 32, 8  # pixels a side
NEIGHBOURS = 6  # candidates an image, and as many for its mirror image
CANDIDATE_COSINE = 0.75  # of the colour thumbnails
ALIKE = 0.8  # correlation of the detail: 5 % crops reach 0.87, other photos of a shelf 0.69
ALIKE_ON_PLAIN = 0.9  # for just by their outlines different fruits on white reach 0.85
PLAIN = 0.65  # share of an image that has detail, under which its ground is plain
_FLAT = 3.0  # standard deviation in grey levels under which there is nothing to compare
_FAINT = 4.0  # grey levels of detail that noise and compression make


@dataclass(frozen=True)
class Fingerprints:
    """Thumbnails of N images: 1.2 kB each."""

    grey: np.ndarray  # (N, 32, 32) uint8
    colour: np.ndarray  # (N, 8, 8, 3) uint8


def fingerprint(image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """Grey (32, 32) and colour (8, 8, 3) thumbnails of an RGB image, as uint8."""
    small = image.resize((GREY_SIZE, GREY_SIZE), Image.Resampling.BILINEAR, reducing_gap=3.0)
    colour = small.resize((COLOUR_SIZE, COLOUR_SIZE), Image.Resampling.BOX)
    return np.asarray(small.convert("L")), np.asarray(colour)


def find_groups(records: np.ndarray) -> np.ndarray:
    """Group numbers (N,) of `scan_images`' records, equal for near-duplicates; cached on disk."""
    facts = records["digest"].tobytes() + decoder_versions().encode()
    key = hashlib.blake2b(facts, digest_size=16).hexdigest()
    file = cache_root() / f"duplicates-v{VERSION}" / f"{key}.i8"
    try:
        groups = np.fromfile(file, np.int64)
        if len(groups) == len(records):
            return groups
    except OSError:
        pass  # not searched yet
    prints = Fingerprints(records["grey"], records["colour"])
    groups = group_duplicates(prints, records["digest"].tolist())
    with optional_cache(file), write_aside(file) as aside:
        groups.tofile(aside)
    return groups


def group_duplicates(
    prints: Fingerprints, digests: list[bytes], *, progress: bool = True
) -> np.ndarray:
    """A number a group, shape (N,): equal for images that are near-duplicates of one another.

    `digests` are hashes of the files; equal ones are duplicates whatever the thumbnails.
    Duplicates of duplicates belong together, so all frames of a turntable can be one group. The
    order of the images changes the numbers, but not the groups.
    """
    first: dict[bytes, int] = {}
    pairs = [(i, first.setdefault(digest, i)) for i, digest in enumerate(digests)]
    seen: dict[bytes, int] = {}  # of equal thumbnails
    for i, (grey, colour) in enumerate(zip(prints.grey, prints.colour, strict=True)):
        if grey.std() > _FLAT:
            digest = hashlib.blake2b(grey.tobytes() + colour.tobytes(), digest_size=16).digest()
            pairs.append((i, seen.setdefault(digest, i)))
    groups = _join(np.arange(len(digests)), np.array(pairs, dtype=int).reshape(-1, 2))
    # one of each, for the index degrades on equal vectors; and in the order of their hashes, for it
    # misses one in ten where the frames of a turntable follow one another
    chosen = np.array([seen[digest] for digest in sorted(seen)], dtype=int)
    if len(chosen) > 1:
        few = Fingerprints(prints.grey[chosen], prints.colour[chosen])
        groups = _join_alike(few, chosen, groups, progress)
    return groups


def _join(groups: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Group numbers (N,), the least index of each group, with pairs (P, 2) of indices joined."""
    a, b = np.concatenate([pairs, np.stack([np.arange(len(groups)), groups], axis=1)]).T
    shape = (len(groups), len(groups))
    _, found = connected_components(coo_array((np.ones(len(a), bool), (a, b)), shape))
    least = np.unique(found, return_index=True)[1]
    return least[found]


def _join_alike(
    prints: Fingerprints, names: np.ndarray, groups: np.ndarray, progress: bool
) -> np.ndarray:
    pairs, mirrored = _find_candidates(prints, progress)
    bars = np.empty(len(names))  # how alike each must be to another
    for block in _blocks(len(names), 2048, "Measuring", "img", progress):
        share = (_detail(prints.grey[block]).abs() > 0.4).float().mean(dim=(1, 2)).numpy()
        bars[block] = np.where(share < PLAIN, ALIKE_ON_PLAIN, ALIKE)
    for windows in (_WINDOWS[:1], _WINDOWS):  # whole images first: cheap, and enough for most
        apart = np.not_equal(*groups[names[pairs]].T)
        pairs, mirrored = pairs[apart], mirrored[apart]
        scores = compare(prints.grey, pairs, mirrored, windows=windows, progress=progress)
        groups = _join(groups, names[pairs[scores >= bars[pairs].max(axis=1)]])
    return groups


def _blocks(count: int, size: int, desc: str, unit: str, progress: bool) -> Iterator[slice]:
    """0 .. count - 1 in slices of `size`, under a progress bar."""
    with progress_bar(total=count, desc=desc, unit=unit, leave=False, disable=not progress) as bar:
        for start in range(0, count, size):
            stop = min(start + size, count)
            yield slice(start, stop)
            bar.update(stop - start)


# ---- candidates ----


def _find_candidates(prints: Fingerprints, progress: bool) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (P, 2) with similar colour thumbnails, and which of them are mirrored, (P,)."""
    from voyager import Index, Space  # HNSW, arXiv:1603.09320

    count, dimensions = len(prints.colour), 3 * COLOUR_SIZE**2
    index = Index(Space.InnerProduct, dimensions, M=12, ef_construction=64, max_elements=count)
    for block in _blocks(count, 2048, "Indexing", "img", progress):
        index.add_items(_vectors(prints.colour[block]), num_threads=1)  # else it is never the same
    neighbours = min(NEIGHBOURS + 1, count)  # an image is its own neighbour
    found = []
    for block in _blocks(count, 2048, "Finding duplicates", "img", progress):
        for flip, colour in enumerate((prints.colour[block], prints.colour[block, :, ::-1])):
            ids, distances = index.query(_vectors(colour), k=neighbours, query_ef=64)
            a = np.repeat(np.arange(block.start, block.stop), neighbours)
            b, cosine = ids.ravel().astype(int), 1 - distances.ravel()
            keep = (cosine >= CANDIDATE_COSINE) & (a != b)
            low, high = np.minimum(a, b)[keep], np.maximum(a, b)[keep]
            found.append(np.stack([low, high, np.full(len(low), flip)], axis=1))
    rows = np.unique(np.concatenate(found), axis=0)
    return rows[:, :2], rows[:, 2].astype(bool)


def _vectors(colour: np.ndarray) -> np.ndarray:
    """Colour thumbnails as unit vectors (N, 192); brightness and contrast drop out."""
    values = colour.reshape(len(colour), -1, 3).astype(np.float32)
    values = (values - values.mean(axis=1, keepdims=True)).reshape(len(colour), -1)
    return values / (np.linalg.norm(values, axis=1, keepdims=True) + 1e-6)


# ---- comparison ----


def compare(
    grey: np.ndarray,
    pairs: np.ndarray,
    mirrored: np.ndarray,
    *,
    windows: torch.Tensor | None = None,
    progress: bool = False,
) -> np.ndarray:
    """How alike pairs (P, 2) of thumbnails are in detail, in [-1, 1], shape (P,).

    The correlation of their high-passed thumbnails, the best over windows of 90 to 100 % of one
    against all of the other. What is smooth, as light and layout, doesn't count.
    """
    windows = _WINDOWS if windows is None else windows
    shown, places = np.unique(pairs, return_inverse=True)
    places = places.reshape(pairs.shape)
    details = torch.empty(len(shown), GREY_SIZE, GREY_SIZE, dtype=torch.float16)
    lengths = torch.empty(len(shown), len(windows), len(windows))
    for block in _blocks(len(shown), 64, "Measuring", "img", progress):
        detail = _detail(grey[shown[block]])
        details[block], lengths[block] = detail, _window_lengths(detail, windows)
    scores = np.empty(len(pairs), np.float32)
    for block in _blocks(len(pairs), 256, "Comparing", "pair", progress):
        a, b = places[block].T
        whole_a, whole_b = details[a].float(), details[b].float()
        flip = torch.from_numpy(mirrored[block])[:, None, None]
        part_a, part_b = (torch.where(flip, x.flip(-1), x) for x in (whole_a, whole_b))
        best = torch.maximum(
            _best_window(whole_a, lengths[a], part_b, lengths[b], windows),
            _best_window(whole_b, lengths[b], part_a, lengths[a], windows),
        )
        scores[block] = best.numpy()
    return scores


def _detail(grey: np.ndarray) -> torch.Tensor:
    """High-passed thumbnails with a mean of zero: (P, 32, 32).

    Local contrast is divided out, or the outline of a fruit on white would count for more than all
    that is inside it.
    """
    images = torch.from_numpy(grey).float()
    detail = images - _TREND @ images @ _TREND.T  # of a slope nothing is left, to the edges
    contrast = _MEAN @ detail**2 @ _MEAN.T
    detail = detail / (contrast + _FAINT**2).sqrt()
    return detail - detail.mean(dim=(1, 2), keepdim=True)


def _window_lengths(detail: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
    """The Euclidean length of each window, less its mean: (P, 32, 32) -> (P, W, W).

    A window is R @ detail @ C.T for two of `windows`; none of them has to be made for its length.
    """
    grams, sums = windows.mT @ windows, windows.sum(1)  # (W, 32, 32), (W, 32)
    squares = torch.einsum("wij,pvij->pwv", grams, detail[:, None] @ grams @ detail.mT[:, None])
    means = sums @ detail @ sums.T / GREY_SIZE**2
    return (squares / GREY_SIZE**2 - means**2).clamp(min=0.1).sqrt() * GREY_SIZE


def _best_window(
    whole: torch.Tensor,
    lengths: torch.Tensor,
    part: torch.Tensor,
    of_part: torch.Tensor,
    windows: torch.Tensor,
) -> torch.Tensor:
    """The best correlation of a window of `whole` with `part`, both (P, 32, 32): (P,).

    The product of R @ whole @ C.T with the part is that of R @ whole with part @ C.
    """
    rows, columns = windows @ whole[:, None], part[:, None] @ windows  # (P, W, 32, 32)
    products = torch.einsum("pwij,pvij->pwv", rows, columns)
    return (products / lengths).amax(dim=(1, 2)) / of_part[:, 0, 0]


def _window(start: float, length: float) -> torch.Tensor:
    """The matrix (32, 32) that resamples [start, start + length] of a unit line, bilinearly."""
    places = (start + (torch.arange(GREY_SIZE) + 0.5) / GREY_SIZE * length) * GREY_SIZE - 0.5
    places = places.clamp(0, GREY_SIZE - 1)[:, None]
    return (1 - (places - torch.arange(GREY_SIZE)).abs()).clamp(min=0)


_WINDOWS = torch.stack(
    [_window(0, 1)]
    + [_window((1 - size) * at, size) for size in (0.975, 0.95, 0.925, 0.9) for at in (0, 0.5, 1)]
)  # (W, 32, 32); used for rows and columns alike, so also for crops of one side
_OFFSETS = torch.arange(float(GREY_SIZE)) - torch.arange(float(GREY_SIZE))[:, None]
_NEAR = torch.exp(-(_OFFSETS**2) / (2 * 2.0**2))  # Gaussian
_MEAN = _NEAR / _NEAR.sum(1, keepdim=True)  # of what is around
_M0, _M1, _M2 = ((_NEAR * _OFFSETS**k).sum(1, keepdim=True) for k in range(3))
_TREND = _NEAR * (_M2 - _M1 * _OFFSETS) / (_M0 * _M2 - _M1**2)  # of a local linear fit
