"""Which data a model is evaluated on: the held-out part of its run's data, or other data.

Reads what training recorded in the model's folder: `training_args.json` and the split lists.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

from hffruits.core.counts import counted
from hffruits.core.errors import InputError
from hffruits.core.escaping import name_in_line
from hffruits.data.arguments import DataArguments
from hffruits.evaluation.predictions import Predictions
from hffruits.models.artifact import METRICS, SPLITS, TRAIN_LIST, TRAINING_ARGS
from hffruits.models.loading import find_model
from hffruits.models.train_digests import read_train_digests

logger = logging.getLogger(__name__)


_OF_TRAINING = (
    "augment", "image_cache", "image_cache_size", "coarse_labels", "split_by",
    "validation_fraction", "test_fraction", "shuffle_buffer", "max_unreadable_fraction",
    "rare_classes",
)  # fmt: skip


def refuse_training_options(data_args: DataArguments) -> None:
    """Raise `InputError` for an option that a measurement would ignore."""
    data_args.refuse(*_OF_TRAINING, why="acts in training only")


@dataclass(frozen=True)
class RunData:
    """What is to be measured on; `seed` is the one by which a run held out rows of a stream."""

    data_args: DataArguments
    seed: int | None = None


def data_of_run(model: str | Path, data_args: DataArguments) -> RunData:
    """The data named, or else the run's own; of its own always what the run held out.

    What it was trained on must not count, also where its data folder is named. Raises `InputError`
    for a model without data of its own where none is named.
    """
    folder = Path(model).expanduser()
    find_model(str(model))
    recorded = read_record(folder / TRAINING_ARGS)
    named = bool(data_args.data_dir or data_args.dataset_name)
    if not recorded:
        if not named:
            raise InputError(f"{model}: doesn't say what it was trained on. Give a data folder.")
        return RunData(data_args)
    own, path, seed = recorded
    if named and not is_same_data(data_args, own, path):
        return RunData(data_args)
    merged = replace(own, **({"data_dir": path} if path else {}) | data_args.changed)
    if not named and path and not Path(path).exists():
        raise InputError(f"{model}: its photos were in {path}, and aren't any more. Name a folder.")
    if merged.streaming != own.streaming:
        how = "on a stream" if own.streaming else "without streaming"
        raise InputError(
            f"{model}: was trained {how}. Evaluate it with streaming={own.streaming}, too."
        )
    if merged.streaming:
        return RunData(merged, seed)
    lists = folder / SPLITS
    if not data_args.split_lists and (lists / TRAIN_LIST).is_file():
        merged = replace(merged, split_lists=str(lists), exclude=data_args.exclude)
    return RunData(merged)


def read_record(file: Path) -> tuple[DataArguments, str | None, int] | None:
    """Data, its absolute folder and seed of a run, out of its `training_args.json`; None without.

    Raises `InputError` for a file that training has not written.
    """
    try:
        recorded = json.loads(file.read_text(encoding="utf-8"))
        names = {f.name for f in fields(DataArguments)} & set(recorded["data"])
        own = DataArguments(**{name: recorded["data"][name] for name in names})
        return own, recorded.get("data_path"), int(recorded["training"]["seed"])
    except OSError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file}: not as training wrote it. Give the data, or fix it.") from error


def dropped_classes(model: str | Path) -> dict[str, int]:
    """Class that a run left out as too rare -> its photos; nothing for what no run here trained."""
    try:
        recorded = json.loads((Path(model).expanduser() / METRICS).read_text(encoding="utf-8"))
        return recorded["data"]["dropped_classes"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def is_same_data(named: DataArguments, own: DataArguments, path: str | None) -> bool:
    """Whether the data named is a run's own, whose folder was at `path`."""
    if named.data_dir and own.data_dir:
        return Path(named.data_dir).expanduser().resolve() == Path(path or own.data_dir).resolve()
    return named.dataset_name is not None and named.dataset_name == own.dataset_name


def count_training_images(
    model: str | Path,
    data_args: DataArguments,
    predictions: Predictions,
    digests: Mapping[str, str],
) -> int:
    """How many of the images a run was trained on, by their paths in its data; warns of them.

    In other data, as in a copy of it, they are known by the `digests` of their bytes, by path.
    """
    folder = Path(model).expanduser()
    lists = folder / SPLITS
    recorded = read_record(folder / TRAINING_ARGS)
    is_own = recorded and is_same_data(data_args, recorded[0], recorded[1])
    paths = set(map(name_in_line, _lines_of(lists / TRAIN_LIST))) if is_own else set()
    trained = set(read_train_digests(folder))
    seen = [path in paths or digests.get(path) in trained for path in predictions.paths]
    if any(seen):
        has_lists = (lists / TRAIN_LIST).is_file()  # a taught model has none
        listed = has_lists and not is_own and data_args.split_lists is None
        remedy = f". split_lists={lists} leaves those out where the paths are the same"
        logger.warning(
            "%s was trained on %d of these %s: its metrics are too optimistic%s",
            *(model, sum(seen), counted(len(seen), "photo"), remedy if listed else ""),
        )
    return sum(seen)


def _lines_of(file: Path) -> list[str]:
    if not file.is_file():
        return []
    return [line for line in file.read_text(encoding="utf-8").split("\n") if line]
