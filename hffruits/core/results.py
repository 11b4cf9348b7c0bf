"""`Result`: what a function that writes a folder gives back to a script or a notebook."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar


@dataclass(frozen=True, repr=False, eq=False)
class Result:
    """A folder that was written, and what came out as plain values.

    A subclass names the page in its folder, if any, as `PAGE`, and sums `record` up in a line.
    """

    folder: Path
    record: dict[str, Any]
    PAGE: ClassVar[str | None] = None

    @property
    def report(self) -> Path | None:
        """The page in the folder; None where there is none, or it could not be made."""
        page = self.folder / self.PAGE if self.PAGE else None
        return page if page and page.is_file() else None

    @property
    def summary(self) -> str:
        """What came out, in a line."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.folder}: {self.summary})"
