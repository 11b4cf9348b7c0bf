"""Which photos a command works on, and how they are split and augmented: a flag for each field."""

import re
from dataclasses import dataclass, field, fields
from pathlib import Path

from hffruits.data.images import MAX_PIXELS
from hffruits.data.source import Source


def option(default: object, help: str, **argparse_options: object):
    return field(default=default, metadata={"help": help, **argparse_options})


@dataclass
class DataArguments:
    """Which photos, and how they are split and augmented."""

    _argument_group_name = "data"

    data_dir: str | None = option(
        None,
        "Folder of class folders, nested or split as you like; a zip or tar of one; a CSV, JSONL "
        "or Parquet file; or WebDataset shards. Default: the drawn sample set.",
    )
    dataset_name: str | None = option(None, "A dataset of the Hub instead, as user/name.")
    dataset_config_name: str | None = option(None, "Which configuration of the Hub dataset.")
    train_split_name: str | None = option(None, "What the Hub dataset calls its train split.")
    validation_split_name: str | None = option(None, "The same for the validation split.")
    test_split_name: str | None = option(None, "The same for the test split.")
    image_column_name: str | None = option(
        None, "The column with pictures or their paths. Default: by its type or usual names."
    )
    label_column_name: str | None = option(
        None, "The column with the classes. Default: by its type or usual names."
    )
    label_from: str | None = option(
        None,
        "Where class folders of one name lie below several folders: leaf makes them one class, "
        "path several, named with the folders above. Default: path, where that is not in doubt.",
    )
    streaming: bool = option(
        False, "Read shards, tables or a Hub dataset on the fly: for data larger than the disk."
    )
    shuffle_buffer: int = option(
        1000, "With streaming: rows among which the next one is drawn; more mix better."
    )
    validation_fraction: float = option(
        0.15, "Share of each class held out to choose the best epoch, where the data has no split."
    )
    test_fraction: float = option(
        0.15, "Share of each class held out for the final figures, where the data has no split."
    )
    split_by: str = option(
        "duplicates",
        "What stays on one side of a split that is made: near-duplicates (duplicates), or nothing "
        "(class).",
    )
    group_by: str | None = option(
        None,
        "A column, or a pattern in the path: photos that share it stay on one side instead, as in "
        "'(shop_\\d+)/'.",
    )
    split_lists: str | None = option(
        None, "Folder with train.txt, validation.txt, ... of an earlier run, to repeat its split."
    )
    exclude: str | None = option(
        None, "File with a path a line to leave out, as `hffruits split --repair list` writes it."
    )
    coarse_labels: str | None = option(
        None,
        "CSV or JSON file that says which coarse label a class belongs to. Default: by the folders "
        "that hold the classes.",
    )
    cache: str = option(
        "none",
        "Decode photos once, not every epoch: none, resized (large training photos, shrunk), or "
        "decoded (all, every pixel; takes much disk).",
    )
    cache_size: int = option(
        512, "With cache=resized: the shorter side in pixels; twice the model's input is enough."
    )
    max_bad_fraction: float = option(
        0.05, "Stop when more than this share of the image files can't be read."
    )
    max_image_pixels: int = option(MAX_PIXELS, "Leave out images with more pixels than this.")
    augment: str = option(
        "light", "What training does to each picture: none, light, medium or strong."
    )

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
        for option in fields(self):
            value = getattr(self, option.name)
            if option.name not in ("data_dir", "streaming") and value != option.default:
                flag, text = f"--{option.name}", str(value)
                words += [f"{flag}={text}"] if text.startswith("-") else [flag, text]
        return words

    @property
    def source(self) -> Source:
        """Which data is meant, as plain values."""
        names = {
            "train": self.train_split_name,
            "validation": self.validation_split_name,
            "test": self.test_split_name,
        }
        return Source(
            self.data_dir,
            self.dataset_name,
            config_name=self.dataset_config_name,
            split_names={split: name for split, name in names.items() if name},
            image_column=self.image_column_name,
            label_column=self.label_column_name,
            group_by=self.group_by,
            streaming=self.streaming,
            label_from=self.label_from,
        )
