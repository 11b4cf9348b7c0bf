"""Near-duplicates: one picture recompressed, resized, relit, mirrored or cropped by some 5 %.

Candidates come from an approximate nearest-neighbour index, so the work grows about as fast as the
number of pictures; each is then compared at its best alignment. Takes arrays, knows no files.
"""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

GREY_SIZE, COLOUR_SIZE = 32, 8  # pixels a side
NEIGHBOURS = 6  # candidates a picture, and as many for its mirror image
CANDIDATE_COSINE = 0.75  # of the colour thumbnails
ALIKE = 0.8  # correlation of the detail: 5 % crops reach 0.87, other photos of a shelf 0.65
_FLAT = 3.0  # standard deviation in grey levels under which there is nothing to compare


@dataclass(frozen=True)
class Fingerprints:
    """What is kept of N pictures: 1.2 kB each."""

    grey: np.ndarray  # (N, 32, 32) uint8
    colour: np.ndarray  # (N, 8, 8, 3) uint8


def fingerprint(image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """Grey (32, 32) and colour (8, 8, 3) thumbnails of an RGB picture, as uint8."""
    small = image.resize((GREY_SIZE, GREY_SIZE), Image.Resampling.BILINEAR, reducing_gap=3.0)
    colour = small.resize((COLOUR_SIZE, COLOUR_SIZE), Image.Resampling.BOX)
    return np.asarray(small.convert("L")), np.asarray(colour)


def group_duplicates(prints: Fingerprints, digests: list[bytes], *, progress: bool = True):
    """A number a group, shape (N,): equal for pictures that are copies of one another.

    `digests` are hashes of the files; equal ones are copies whatever the thumbnails say. Copies of
    copies belong together, so all frames of a turntable can be one group.
    """
    groups = _Groups(len(digests))
    first: dict[bytes, int] = {}
    for i, digest in enumerate(digests):
        groups.join(i, first.setdefault(digest, i))
    shown: dict[bytes, int] = {}
    comparable = prints.grey.reshape(len(digests), -1).std(axis=1) > _FLAT
    for i in np.flatnonzero(comparable):
        groups.join(i, shown.setdefault(prints.grey[i].tobytes() + prints.colour[i].tobytes(), i))
    chosen = np.array(sorted(shown.values()), dtype=int)  # the index degrades on equal vectors
    if len(chosen) > 1:
        few = Fingerprints(prints.grey[chosen], prints.colour[chosen])
        _join_alike(few, chosen, groups, progress)
    return groups.numbers()


def _join_alike(prints: Fingerprints, names: np.ndarray, groups: "_Groups", progress: bool) -> None:
    pairs, mirrored = _find_candidates(prints, progress)
    bar = tqdm(total=len(pairs), desc="Comparing", unit="pair", leave=False, disable=not progress)
    for start in range(0, len(pairs), 512):
        # most pairs of a turntable's frames are joined already through others
        block = slice(start, start + 512)
        apart = [groups.find(names[a]) != groups.find(names[b]) for a, b in pairs[block]]
        some, flip = pairs[block][apart], mirrored[block][apart]
        for (a, b), score in zip(some, compare(prints.grey, some, flip), strict=True):
            if score >= ALIKE:
                groups.join(names[a], names[b])
        bar.update(len(apart))
    bar.close()


# ---- candidates ----


def _find_candidates(prints: Fingerprints, progress: bool) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (P, 2) with similar colour thumbnails, most similar first, and which are mirrored."""
    from voyager import Index, Space  # HNSW, arXiv:1603.09320

    vectors, mirrored = (_vectors(c) for c in (prints.colour, prints.colour[:, :, ::-1]))
    count, dimensions = vectors.shape
    index = Index(Space.InnerProduct, dimensions, M=12, ef_construction=64, max_elements=count)
    neighbours = min(NEIGHBOURS + 1, count)  # a picture is its own neighbour
    blocks = range(0, count, 2048)
    options = {"unit": "img", "unit_scale": 2048, "leave": False, "disable": not progress}
    for start in tqdm(blocks, "Indexing", **options):
        index.add_items(vectors[start : start + 2048])
    found = []
    for start in tqdm(blocks, "Looking for duplicates", **options):
        for flip, queries in enumerate((vectors, mirrored)):
            block = queries[start : start + 2048]
            ids, distances = index.query(block, k=neighbours, query_ef=max(64, neighbours))
            a = np.repeat(np.arange(start, start + len(block)), neighbours)
            b, cosine = ids.ravel().astype(int), 1 - distances.ravel()
            keep = (cosine >= CANDIDATE_COSINE) & (a != b)
            low, high = np.minimum(a, b)[keep], np.maximum(a, b)[keep]
            found.append(np.stack([low, high, np.full(len(low), flip), -cosine[keep] * 1e6], 1))
    rows = np.concatenate(found).astype(np.int64)  # (P, 4): pair, mirrored, order
    _, once = np.unique(rows[:, :3], axis=0, return_index=True)
    rows = rows[once]
    rows = rows[np.argsort(rows[:, 3], kind="stable")]
    return rows[:, :2], rows[:, 2].astype(bool)


def _vectors(colour: np.ndarray) -> np.ndarray:
    """Colour thumbnails as unit vectors (N, 192); brightness and contrast drop out."""
    values = colour.reshape(len(colour), -1, 3).astype(np.float32)
    values = (values - values.mean(axis=1, keepdims=True)).reshape(len(colour), -1)
    return values / (np.linalg.norm(values, axis=1, keepdims=True) + 1e-6)


# ---- comparison ----


def compare(grey: np.ndarray, pairs: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
    """How alike pairs (P, 2) of thumbnails are in detail, in [-1, 1], shape (P,).

    The correlation of their high-passed thumbnails, the best over windows of 90 to 100 % of one
    against all of the other. What is smooth, as light and layout, doesn't count.
    """
    scores = [np.zeros(0, np.float32)]
    for start in range(0, len(pairs), 128):
        a, b = (torch.from_numpy(grey[pairs[start : start + 128, side]]).float() for side in (0, 1))
        flip = torch.from_numpy(mirrored[start : start + 128])[:, None, None]
        a = torch.where(flip, a.flip(-1), a)
        best = torch.maximum(_best_window(a, b), _best_window(b, a))
        scores.append(best.numpy())
    return np.concatenate(scores)


def _best_window(whole: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
    """(P, 32, 32) twice -> (P,): the best match of a window of `whole` with `part`."""
    rows = whole[:, None] if len(whole) else whole.reshape(0, 1, GREY_SIZE, GREY_SIZE)
    windows = _WINDOWS[None, :, None] @ rows[:, :, None] @ _WINDOWS.mT[None, None]  # (P, W, W, ..)
    windows = _detail(windows.flatten(1, 2))  # (P, W * W, 1024)
    return (windows @ _detail(part)[:, :, None]).amax(dim=(1, 2))


def _detail(pictures: torch.Tensor) -> torch.Tensor:
    """High-passed and normalised: (..., 32, 32) -> (..., 1024)."""
    detail = (pictures - _BLUR @ pictures @ _BLUR.T).flatten(-2)
    detail = detail - detail.mean(-1, keepdim=True)
    return detail / (detail.norm(dim=-1, keepdim=True) + 1e-3)


def _window(start: float, length: float) -> torch.Tensor:
    """The matrix (32, 32) that resamples [start, start + length] of a unit line, bilinearly."""
    places = (start + (torch.arange(GREY_SIZE) + 0.5) / GREY_SIZE * length) * GREY_SIZE - 0.5
    places = places.clamp(0, GREY_SIZE - 1)[:, None]
    return (1 - (places - torch.arange(GREY_SIZE)).abs()).clamp(min=0)


_WINDOWS = torch.stack(
    [_window(0, 1)]
    + [_window((1 - length) * at, length) for length in (0.95, 0.9) for at in (0, 0.5, 1)]
)  # (W, 32, 32); used for rows and columns alike, so also for crops of one side
_BLUR = torch.exp(-((torch.arange(32.0)[:, None] - torch.arange(32.0)) ** 2) / 8)  # sigma 2
_BLUR = _BLUR / _BLUR.sum(1, keepdim=True)


class _Groups:
    """Disjoint sets of 0 .. count - 1."""

    def __init__(self, count: int):
        self.parent = list(range(count))

    def find(self, i: int) -> int:
        while self.parent[i] != i:
            self.parent[i] = i = self.parent[self.parent[i]]
        return i

    def join(self, a: int, b: int) -> None:
        a, b = self.find(int(a)), self.find(int(b))
        self.parent[max(a, b)] = min(a, b)

    def numbers(self) -> np.ndarray:
        return np.array([self.find(i) for i in range(len(self.parent))], dtype=int)
