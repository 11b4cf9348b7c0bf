"""`DataArguments`: which photos, how they are read, split and augmented; a flag for each field."""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from numbers import Real
from pathlib import Path
from typing import Any, Self

from hffruits.core.errors import InputError
from hffruits.core.escaping import shorten
from hffruits.core.flags import suggest
from hffruits.core.names import similar_path
from hffruits.data.pixel_limit import MAX_PIXELS, check_max_pixels

OF_EPOCHS = ("augment", "image_cache", "image_cache_size", "shuffle_buffer")  # act in training only
SAMPLE = "the sample set"  # what no name means


def option(default: object, help: str, **argparse_options: object):
    return field(default=default, metadata={"help": help, **argparse_options})


@dataclass
class DataArguments:
    """Which photos, how they are read, split and augmented. Passed whole to what reads them.

    Neither `data_dir` nor `dataset_name` means the sample set.
    """

    _argument_group_name = "data"

    data_dir: str | None = option(
        None,
        "Folder of class folders, nested or split as you like; a zip or tar of one; a CSV, JSONL "
        "or Parquet file; WebDataset shards; or a folder that `save_to_disk` of datasets wrote. "
        "Default: the sample set.",
    )
    dataset_name: str | None = option(None, "A Hub dataset instead, as user/name.")
    dataset_config_name: str | None = option(None, "Configuration of the Hub dataset.")
    train_split_name: str | None = option(
        None, "Name of the train split of a Hub dataset, or of a saved one."
    )
    validation_split_name: str | None = option(None, "Name of its validation split.")
    test_split_name: str | None = option(None, "Name of its test split.")
    image_column_name: str | None = option(
        None, "The column with images or their paths. Default: by its type or usual names."
    )
    label_column_name: str | None = option(
        None,
        "The column with the classes. Default: by its type or usual names, else all columns of 0 "
        "and 1, a class each.",
    )
    table_encoding: str | None = option(
        None, "Encoding of a CSV or JSON file that isn't UTF-8 or UTF-16, such as cp1252 or gbk."
    )
    label_from: str | None = option(
        None,
        "Where class folders of one name lie below several folders: leaf makes them one class, "
        "path several, named with the folders above. Default: path, where that is not in doubt.",
    )
    streaming: bool = option(
        False, "Read shards, tables or a Hub dataset on the fly: for data larger than the disk."
    )
    shuffle_buffer: int = option(1000, "With streaming: size of the shuffle buffer, in rows.")
    validation_fraction: float = option(
        0.15, "Share of each class held out to choose the best epoch, where the data has no split."
    )
    test_fraction: float = option(
        0.15,
        "Share of each class held out for the final metrics, where the data has no split; 0 for no "
        "test split.",
    )
    rare_classes: str = option(
        "error",
        "What to do with a class of too few photos for the splits that are made: error; train_only "
        "trains on it and measures it nowhere; drop leaves it out.",
    )
    split_by: str = option(
        "duplicates",
        "What stays on one side of a split that is made: near-duplicates (duplicates), or nothing "
        "(class).",
    )
    group_by: str | None = option(
        None,
        "A column, or a pattern in the path (of a table, what its column of paths or ids says): "
        "photos that share it stay in one split, as in '(shop_\\d+)/'.",
    )
    split_lists: str | None = option(
        None,
        "Folder with train.txt, validation.txt, ... of an earlier run, to repeat its split; of a "
        "table with ids, a line is an id.",
    )
    exclude: str | None = option(
        None, "File with a path a line to leave out, as `hffruits split --repair list` writes it."
    )
    coarse_labels: str | None = option(
        None,
        "CSV or JSON file that says which coarse label a class belongs to. Default: by the folders "
        "that hold the classes.",
    )
    image_cache: str = option(
        "none",
        "Decode photos once, not every epoch: none, resized (large training photos, shrunk), or "
        "decoded (all, every pixel; takes much disk).",
    )
    image_cache_size: int = option(
        512,
        "With image_cache=resized: the shorter side in pixels; twice the model's input is enough.",
    )
    max_unreadable_fraction: float = option(
        0.05, "Stop when more than this share of the image files can't be read."
    )
    max_image_pixels: int = option(
        MAX_PIXELS,
        "Leave out images with more pixels than this; of a JPEG those that are decoded count, at a "
        "half, a quarter or an eighth of a very large one's size.",
    )
    allow_truncated_images: bool = option(
        False, "Use JPEGs that lack only their last bytes, and list them as truncated."
    )
    augment: str = option(
        "light", "What training does to each photo: none, light, medium or strong."
    )

    def __post_init__(self):
        for name in ("data_dir", "dataset_name"):  # "" would be taken for no name
            value = getattr(self, name)
            if value is not None and not str(value).strip():
                raise InputError(
                    f"{name}: empty. Name the data, or leave it out for the sample set."
                )
        check_max_pixels(self.max_image_pixels)
        for name in ("split_lists", "exclude", "coarse_labels"):
            if str(file := getattr(self, name)).startswith("~/"):
                setattr(self, name, str(Path(file).expanduser()))

    @classmethod
    def of(
        cls,
        data: "DataArguments | str | Path | None" = None,
        *,
        function: Callable[..., Any] | None = None,
        **options: Any,
    ) -> Self:
        """`data`, or the folder, archive, table, shards or Hub id named, with these fields set.

        A text such as `user/fruits` is a Hub id where no such folder is; a `Path` never is one.
        Raises `InputError` for an option that there isn't, with those like it, of the data and of
        the `function` whose keywords they are.
        """
        known = [option.name for option in fields(cls)]
        if unknown := [name for name in options if name not in known]:
            all_names = [*known, *(_keywords(function) if function else ())]
            hints = {name: suggest(name, all_names) for name in unknown}
            said = ", ".join(f"{name}: unknown{hint}" for name, hint in hints.items())
            raise InputError(
                said if all(hints.values()) else f"{said}. Known: {', '.join(all_names)}."
            )
        for name, value in options.items():
            if isinstance(default := getattr(cls, name), int | float | str):
                _check_kind(name, value, default)
        if isinstance(data, DataArguments):
            return replace(data, **options)
        if data is None:
            return cls(**options)
        if not isinstance(data, str | Path):
            raise InputError(
                f"{shorten(data)}: the data is one folder, file, pattern or Hub id, not a "
                f"{type(data).__name__}. Give its name."
            )
        if twice := {"data_dir", "dataset_name"} & set(options):
            raise InputError(f"{data} and {twice.pop()}: give one of them.")
        return cls(**{"dataset_name" if _is_hub_id(data) else "data_dir": str(data)}, **options)

    def refuse(self, *names: str, why: str) -> None:
        """Raise `InputError` for a field of these that is set."""
        for name in self.changed:
            if name in names:
                raise InputError(f"{name}: {why}. Leave it out.")

    @property
    def changed(self) -> dict[str, Any]:
        """The fields that are not as they are by default."""
        values = ((option, getattr(self, option.name)) for option in fields(self))
        return {option.name: value for option, value in values if value != option.default}

    @property
    def source_name(self) -> str:
        """What the data is called in messages and records."""
        return str(self.dataset_name or self.data_dir or SAMPLE)

    @property
    def name(self) -> str:
        """What a folder of results on this data is called."""
        if self.dataset_name:
            return self.dataset_name.rpartition("/")[2]
        path = Path(self.data_dir or "sample").resolve()
        while re.search(r"[*?\[{]", path.name) and not path.exists():  # of `shards/*`, the folder
            path = path.parent
        return path.stem if path.is_file() else path.name

    @property
    def words(self) -> list[str]:
        """This as words of a command line; without --streaming, which not all commands take."""
        folder = str(self.data_dir or "")
        words = [f"--data_dir={folder}" if folder.startswith("-") else folder] if folder else []
        for name, value in self.changed.items():
            if name not in ("data_dir", "streaming"):
                flag, text = f"--{name}", str(value)
                words += [f"{flag}={text}"] if text.startswith("-") else [flag, text]
        return words

    @property
    def split_names(self) -> dict[str, str]:
        """Our names of splits -> those of the Hub dataset, where they are named."""
        names = {
            "train": self.train_split_name,
            "validation": self.validation_split_name,
            "test": self.test_split_name,
        }
        return {split: name for split, name in names.items() if name}

    def check_exists(self) -> None:
        """Raise `InputError` for data that is not there, as far as its name alone says that."""
        name = str(self.data_dir or "")
        if name and "://" not in name and not re.search(r"[*?\[{]", name):
            check_exists(Path(name).expanduser())

    def check_outside(self, output_dir: Path) -> None:
        """Raise `InputError` for an output folder within the data."""
        data = Path(self.data_dir).expanduser() if self.data_dir else None
        if data and data.is_dir() and output_dir.resolve().is_relative_to(data.resolve()):
            raise InputError(
                f"output_dir={output_dir}: lies in the data folder, where it would be taken for "
                "data. Name one elsewhere."
            )


def check_exists(path: Path) -> None:
    """Raise `InputError` for data that is not there, with what lies beside it and is like it."""
    if not path.exists():
        hint = similar_path(path)
        raise InputError(f"{path}: no such folder{hint}. Check the path.")


def _check_kind(name: str, value: object, default: bool | int | float | str) -> None:
    """Raise `InputError` for a text in place of a number, or the other way round."""
    kinds = {bool: (bool, "True or False"), str: ((str, Path), "a text")}
    kind, said = kinds.get(type(default), (Real, "a number"))
    if not isinstance(value, kind):
        raise InputError(f"{name}={shorten(repr(value))}: not {said}. Give one.")


def _keywords(function: Callable[..., Any]) -> list[str]:
    """Names that a function takes, less the one that stands for all others."""
    parameters = inspect.signature(function).parameters.values()
    return [own.name for own in parameters if own.kind is not own.VAR_KEYWORD]


def _is_hub_id(name: str | Path) -> bool:
    """True for `user/name` where no such folder is, nor one that would hold it."""
    if isinstance(name, Path) or not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name):
        return False
    return not Path(name).parent.exists()
