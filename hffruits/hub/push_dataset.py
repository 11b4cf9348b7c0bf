"""Pushing photos to the Hub as a cleaned dataset: Parquet shards, splits, class names, a card."""

import csv
import io
import struct
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, DatasetInfo, Features, Image
from datasets.info import DatasetInfosDict
from datasets.splits import SplitDict, SplitInfo
from huggingface_hub import CommitOperationAdd, DatasetCard, DatasetCardData

from hffruits.core.errors import InputError, short_reason
from hffruits.core.escaping import markdown, shorten
from hffruits.core.progress import progress_bar
from hffruits.data.arguments import OF_EPOCHS, DataArguments
from hffruits.data.readers.error_translation import quiet
from hffruits.data.readers.folders import SPLIT_NAMES
from hffruits.data.validation import Part
from hffruits.exploration.repair import clean, count_by_reason, photos_outside
from hffruits.hub.commit import Pushed, Repository, check_push, push_files
from hffruits.hub.exif_gps import without_location
from hffruits.models.artifact import CONFIG

TEMPLATE = Path(__file__).with_name("templates") / "dataset_card.md.jinja"
SHARD_BYTES = 300 * 10**6  # of images; one shard at a time lies on the disk
COARSE = "coarse_labels.csv"
OWNED = (*(f"data/{split}-*-of-*.parquet" for split in SPLIT_NAMES), COARSE)
_SIZES = {10**3: "n<1K", 10**4: "1K<n<10K", 10**5: "10K<n<100K", 10**6: "100K<n<1M"}


@dataclass
class Written:
    """Counts of what is in the shards."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)  # split -> class -> images
    nbytes: Counter[str] = field(default_factory=Counter)  # by split
    located: int = 0  # photos that held where they were taken

    def clear(self) -> None:
        """Back to nothing."""
        self.counts.clear()
        self.nbytes.clear()
        self.located = 0


def push_data(
    data_args: DataArguments,
    repo_id: str,
    *,
    private: bool = False,
    license: str | None = None,
    resplit: bool = False,
    keep_location: bool = False,
    shard_bytes: int = SHARD_BYTES,
    seed: int = 42,
    token: str | None = None,
) -> tuple[Pushed, dict[str, Any]]:
    """Push photos to the dataset `user/name`, made if it is new; also what went in and what not.

    Left out is what `hffruits split --repair` leaves out; splits are the data's own, unless
    `resplit`, or made. Positions in the photos' metadata go, unless `keep_location`. The same again
    changes nothing. Raises `InputError` for data that can't be used, and for what the Hub refuses.
    """
    data_args.refuse("streaming", "split_lists", why="cleaning needs all photos")
    data_args.refuse(*OF_EPOCHS, why="acts in training only")
    folder = Path(data_args.data_dir or "")
    if data_args.data_dir and (folder / CONFIG).is_file():
        raise InputError(f"{folder}: a model, not photos. Run hffruits push for it.")
    before = {"kind": "dataset", "private": private, "license": license, "token": token}
    repo_id = check_push(repo_id, **before)  # before all photos are read
    cleaned = clean(data_args, resplit=resplit, seed=seed)
    if outside := photos_outside(cleaned.parts, data_args):
        raise InputError(
            f"{data_args.source_name}: {len(outside):,} of its photos lie outside its folder (such "
            f"as {shorten(outside[0])}) and would be published. Put the table above all photos, or "
            "leave them out with exclude."
        )
    names = sorted({label for part in cleaned.parts.values() for label in part.rows["label"]})
    features = Features({"image": Image(), "label": ClassLabel(names=names)})
    left_out = count_by_reason(cleaned.left_out)
    written = Written()

    def send(repository: Repository) -> Iterator[CommitOperationAdd]:
        written.clear()  # another try starts from scratch
        with tempfile.TemporaryDirectory(prefix="hffruits-shards-") as folder:
            for path, file in write_shards(
                cleaned.parts,
                features,
                Path(folder),
                written,
                shard_bytes=shard_bytes,
                keep_location=keep_location,
                seed=seed,
            ):
                yield repository.add(path, file)
                file.unlink()
        if cleaned.coarse:
            yield CommitOperationAdd(COARSE, _coarse_csv(cleaned.coarse))
        facts = {"left_out": _escaped(left_out), "coarse": bool(cleaned.coarse)}
        facts["license"] = license or repository.license  # that of an earlier push holds
        facts["made"] = [split for split in written.counts if split not in cleaned.own_splits]
        card = dataset_card(repository.repo_id, features, written, **facts)
        yield CommitOperationAdd("README.md", str(card).encode())

    pushed = push_files(
        repo_id,
        send,
        kind="dataset",
        owned=OWNED,
        private=private,
        message=f"Push {Path(data_args.source_name).name} with hffruits",
        token=token,
    )
    images = {split: sum(counts.values()) for split, counts in written.counts.items()}
    return pushed, {"images": images, "left_out": left_out, "located": written.located}


def write_shards(
    parts: Mapping[str, Part],
    features: Features,
    folder: Path,
    written: Written,
    *,
    shard_bytes: int,
    keep_location: bool,
    seed: int,
) -> Iterator[tuple[str, Path]]:
    """Parquet files of about `shard_bytes` of images, one at a time: path on the Hub, and here.

    The same photos give the same bytes, wherever they lie.
    """
    total = sum(len(part.rows) for part in parts.values())
    with progress_bar(total=total, desc="Writing shards", unit="img", leave=False) as bar:
        for split in (name for name in SPLIT_NAMES if name in parts):
            part = parts[split]
            order = _order(part, shuffle=split == "train", seed=seed)
            cuts = np.cumsum(part.records["bytes"][order]) // shard_bytes
            shards = np.split(order, np.flatnonzero(np.diff(cuts)) + 1)
            counts = written.counts[split] = Counter()
            for number, indices in enumerate(shards):
                rows = []
                for row in part.rows.select(indices):
                    content, moved = _published(row, keep_location)
                    written.located += moved
                    written.nbytes[split] += len(content)
                    counts[row["label"]] += 1
                    image = {"bytes": content, "path": None}
                    rows.append({"image": image, "label": features["label"].str2int(row["label"])})
                    bar.update()
                name = f"{split}-{number:05d}-of-{len(shards):05d}.parquet"
                with quiet():
                    Dataset.from_list(rows, features=features).to_parquet(folder / name)
                yield f"data/{name}", folder / name


def _order(part: Part, *, shuffle: bool, seed: int) -> np.ndarray:
    """The rows by their photos' bytes, which no renaming changes; mixed for training."""
    order = np.lexsort((part.records["digest"], part.rows["label"][:]))
    return np.random.default_rng(seed).permutation(order) if shuffle else order


def _published(row: dict[str, Any], keep_location: bool) -> tuple[bytes, bool]:
    """A photo's bytes, and whether a position was taken out."""
    image = row["image"]
    try:
        content = image["bytes"] or Path(image["path"]).read_bytes()
        public = content if keep_location else without_location(content)
    except (OSError, ValueError, SyntaxError, KeyError, TypeError, struct.error) as error:
        raise InputError(
            f"{row['path']}: its position can't be taken out ({short_reason(error)}). Leave it "
            "out with exclude, or set keep_location."
        ) from error
    return public, public is not content


def _escaped(counts: Mapping[str, int]) -> dict[str, int]:
    return {markdown(name): count for name, count in counts.items()}


def _coarse_csv(coarse: Mapping[str, str]) -> bytes:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(sorted(coarse.items()))
    return file.getvalue().encode()


def dataset_card(
    repo_id: str, features: Features, written: Written, *, license: str | None, **facts: Any
) -> DatasetCard:
    """The card of what was written: the Hub's viewer and `load_dataset` read its head."""
    images = {split: sum(counts.values()) for split, counts in written.counts.items()}
    size = next((name for limit, name in _SIZES.items() if sum(images.values()) < limit), "n>1M")
    title = repo_id.rpartition("/")[2]
    card_data = DatasetCardData(
        license=license,
        task_categories=["image-classification"],
        size_categories=[size],
        pretty_name=title,
        tags=["fruit", "hffruits"],
        configs=[
            {
                "config_name": "default",
                "data_files": [
                    {"split": split, "path": f"data/{split}-*.parquet"} for split in images
                ],
            }
        ],
    )
    splits = {
        split: SplitInfo(split, num_bytes=written.nbytes[split], num_examples=count)
        for split, count in images.items()
    }
    info = DatasetInfo(features=features, splits=SplitDict(splits))
    DatasetInfosDict({"default": info}).to_dataset_card_data(card_data)
    return DatasetCard.from_template(
        card_data,
        template_str=TEMPLATE.read_text(encoding="utf-8"),
        title=markdown(title),
        repo_id=repo_id,
        images=images,
        classes={name: markdown(name) for name in features["label"].names},
        counts=written.counts,
        located=written.located,
        license=license and markdown(license),
        **facts,
    )
