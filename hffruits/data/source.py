"""Which data is meant: one small value that says it, for every command."""

from dataclasses import dataclass, field
from pathlib import Path

from hffruits.core.errors import InputError

SAMPLE = "the drawn sample set"  # what no name means


@dataclass(frozen=True)
class Source:
    """What to read, and how to understand it. Neither path nor name means the drawn samples."""

    data_dir: str | Path | None = None  # a folder, archive, table or shards; a pattern of files
    dataset_name: str | None = None  # a Hub id
    config_name: str | None = None
    split_names: dict[str, str] = field(default_factory=dict)  # ours -> the Hub dataset's
    image_column: str | None = None
    label_column: str | None = None
    group_by: str | None = None  # a column, or a pattern that doesn't concern the source
    streaming: bool = False
    label_from: str | None = None  # of `folders.LABEL_FROM`: how class folders name the class

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return str(self.dataset_name or self.data_dir or SAMPLE)

    def check_outside(self, output_dir: Path) -> None:
        """Raise `InputError` for an output folder within the data."""
        data = Path(self.data_dir).expanduser() if self.data_dir else None
        if data and data.is_dir() and output_dir.resolve().is_relative_to(data.resolve()):
            raise InputError(
                f"output_dir={output_dir}: lies in the data folder, where it would be taken for "
                "data. Name one elsewhere."
            )
