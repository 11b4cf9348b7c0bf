"""Visitors' feedback, stored in a folder: the photo as a new JPEG, and a line of JSON.

Nothing of the file that was sent is kept as it was. The folder never outgrows its bounds.
"""

import hashlib
import io
import json
import threading
from datetime import UTC, datetime
from pathlib import Path

from PIL import Image

from hffruits.core.errors import InputError
from hffruits.core.files import write_aside

LINES = "feedback.jsonl"
MAX_FILES = 2000
MAX_BYTES = 500 * 10**6
LONG_SIDE = 1024  # pixels of a kept photo


class FeedbackBox:
    """A folder of photos with what a visitor said of the prediction, made with the first."""

    def __init__(self, folder: Path, *, max_files: int = MAX_FILES, max_bytes: int = MAX_BYTES):
        self.folder, self.max_files, self.max_bytes = folder, max_files, max_bytes
        self._lock = threading.Lock()

    def keep(
        self, image: Image.Image, *, predicted: str, score: float, known: bool, label: str | None
    ) -> None:
        """Keep one RGB image: it was `predicted`, and is `label`, or unknown where None.

        The same feedback on the same image is kept once. Raises `InputError` for a full folder, and
        for one that can't be written.
        """
        small = image.copy()
        small.thumbnail((LONG_SIDE, LONG_SIDE))
        small.info.clear()  # Pillow writes a comment that was read
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=90)
        content = buffer.getvalue()
        name = hashlib.sha256(content).hexdigest()[:16] + ".jpg"
        said = {"file": name, "predicted": predicted, "score": round(score, 4), "known": known}
        said |= {"label": label}
        try:
            with self._lock:
                self._write(content, said)
        except OSError as error:
            raise InputError(f"It can't be saved: {error.strerror}.") from error

    def _write(self, content: bytes, said: dict) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = self.folder / LINES
        line = json.dumps(said, ensure_ascii=False)
        if lines.exists() and line[1:] in lines.read_text(encoding="utf-8"):
            return
        sizes = [path.stat().st_size for path in self.folder.iterdir()]
        if len(sizes) > self.max_files or sum(sizes) + len(content) > self.max_bytes:
            raise InputError("The feedback folder is full. Thank you anyway.")
        with write_aside(self.folder / said["file"]) as photo:
            photo.write_bytes(content)
        time = datetime.now(UTC).isoformat(timespec="seconds")
        with lines.open("a", encoding="utf-8") as file:
            file.write(f'{{"time": "{time}", {line[1:]}\n')
