"""Visitors' feedback is stored small, re-encoded and bounded."""

import errno
import json
from pathlib import Path

import pytest
from PIL import Image
from support.drawing import draw_fruit

from hffruits.core.errors import InputError
from hffruits.demo.feedback import LINES, FeedbackBox

SAID = {"predicted": "Pear", "score": 0.91234, "known": True, "label": "Kiwi"}


def read_lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / LINES).read_text("utf-8").splitlines()]


def test_a_photo_is_kept_as_a_new_small_jpeg_with_what_was_said(tmp_path) -> None:
    image = draw_fruit("Kiwi", seed=1, size=1500)
    image.info["comment"] = b"secret"
    FeedbackBox(tmp_path / "feedback").keep(image, **SAID)
    (line,) = read_lines(tmp_path / "feedback")
    assert line.pop("time").endswith("+00:00")
    with Image.open(tmp_path / "feedback" / line.pop("file")) as kept:
        assert kept.format == "JPEG" and max(kept.size) == 1024
        assert "comment" not in kept.info
    assert line == SAID | {"score": 0.9123}
    assert image.size == (1500, 1500)


def test_the_same_feedback_on_the_same_photo_is_kept_once(tmp_path) -> None:
    box = FeedbackBox(tmp_path)
    for label in ("Kiwi", "Kiwi", None):
        box.keep(draw_fruit("Kiwi", seed=1, size=100), **SAID | {"label": label})
    assert [line["label"] for line in read_lines(tmp_path)] == ["Kiwi", None]


def test_of_a_photo_that_the_disk_refuses_no_half_stays(tmp_path, monkeypatch) -> None:
    def refuse(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("hffruits.core.files.flush", refuse)
    with pytest.raises(InputError, match="It can't be saved: No space left on device"):
        FeedbackBox(tmp_path).keep(draw_fruit("Kiwi", seed=1, size=100), **SAID)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bound", [{"max_files": 2}, {"max_bytes": 9000}])
def test_a_full_folder_accepts_no_more_uploads(bound, tmp_path) -> None:
    box = FeedbackBox(tmp_path, **bound)
    with pytest.raises(InputError, match="full"):
        for seed in range(9):
            box.keep(draw_fruit("Kiwi", seed=seed, size=100), **SAID)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 30_000


def test_a_folder_that_cannot_be_written_is_an_error_without_its_path(tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="can't be saved") as caught:
        FeedbackBox(tmp_path / "file").keep(draw_fruit("Kiwi", seed=1, size=50), **SAID)
    assert str(tmp_path) not in str(caught.value)
