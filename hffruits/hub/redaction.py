"""Redaction: paths of this machine are removed from what is published, in copies of the files."""

import json
import re
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import escape

from hffruits.core.files import file_below
from hffruits.models.artifact import TRAINING_ARGS

# Fields that name a file or folder, or may: of them the last name is enough.
_PATH_FIELDS = {
    "data_dir", "data_path", "split_lists", "exclude", "coarse_labels", "output_dir",
    "model_name_or_path", "name_or_path", "resume_from_checkpoint", "made_from", "taught_from",
    "logging_dir", "deepspeed", "fsdp_config",
}  # fmt: skip
MAX_RECORD = 5_000_000  # characters
_DATA_URI = re.compile(r"(data:[\w/+.-]+;base64,[A-Za-z0-9+/=]+)")


@dataclass(frozen=True)
class Redaction:
    """Takes these folders out of texts: what lies below them keeps its path from there."""

    places: tuple[Path, ...]  # the longest first

    def in_text(self, text: str) -> str:
        """A text, with every form in which a page may hold the folders."""
        for place in self.places:
            for form in {str(place), str(escape(place)), place.as_posix()}:
                start = r"(?<![\w.])" + re.escape(form)
                text = re.sub(start + r"[/\\](?=[^\s\"'<>])", "", text)
                text = place.name.join(re.split(start + r"(?![\w-]|\.[\w.-])", text))
        return text

    def in_page(self, page: str) -> str:
        """A page; its embedded images stay: their letters could spell a folder by chance."""
        parts = _DATA_URI.split(page)
        return "".join(
            part if number % 2 else self.in_text(part) for number, part in enumerate(parts)
        )

    def in_record(self, value: Any, field: str = "") -> Any:
        """A record, as JSON has it; names of classes stay as they are."""
        if isinstance(value, dict):
            return {key: self.in_record(inner, key) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.in_record(inner, field) for inner in value]
        if not isinstance(value, str):
            return value
        if field in _PATH_FIELDS:
            return _last_name(value)
        return self.in_text(value)


def redaction_of(folder: Path) -> Redaction:
    """What to redact of a run's folder: where it, its data, this process and its user are."""
    named = [*_recorded_places(folder), folder.absolute(), folder.resolve()]
    named += [Path.cwd(), tempfile.gettempdir()]
    with suppress(RuntimeError):  # a user without one, as in a container
        named.append(Path.home())
    places = {Path(name) for name in named if Path(name).is_absolute()}
    places = {place for place in places if place.name}  # not the root
    return Redaction(tuple(sorted(places, key=lambda place: (-len(str(place)), place))))


def _recorded_places(folder: Path) -> list[str]:
    """Where a run's data and output were; none of a record that this package has not written."""
    file = file_below(folder, TRAINING_ARGS)
    if file is None:
        return []
    try:
        with file.open(encoding="utf-8") as text:
            record = json.loads(text.read(MAX_RECORD))
        named = [record.get("data_path"), record.get("data", {}).get("data_dir")]
        named.append(record.get("training", {}).get("output_dir"))
    except (ValueError, AttributeError):
        return []
    return [name for name in named if isinstance(name, str)]


def _last_name(value: str) -> str:
    """Of a path on this machine the last name; a Hub id, which is no path, stays."""
    local = Path(value).is_absolute() or value.startswith(("~", ".")) or "\\" in value
    return re.split(r"[/\\]", value.rstrip("/\\"))[-1] if local else value
