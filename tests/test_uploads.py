"""What strangers send: pictures are opened, the rest is refused in words that tell no path."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hostile_files import ACCEPTED, REFUSED, ZIPS, encoded, film, picture, zipped
from PIL import Image

from hffruits import uploads
from hffruits.errors import InputError
from hffruits.images import open_rgb
from hffruits.uploads import Upload, list_uploads, open_upload, shown_name


@pytest.fixture
def sent(tmp_path: Path) -> Callable[[str, bytes], Upload]:
    def send(name: str, content: bytes) -> Upload:
        (tmp_path / "sent").mkdir(exist_ok=True)
        path = tmp_path / "sent" / name
        path.write_bytes(content)
        return Upload(name, path)

    return send


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_plain_picture_is_refused_with_a_reason(name, sent) -> None:
    make, reason = REFUSED[name]
    upload = sent(name, make())
    with pytest.raises(InputError, match=reason) as caught:
        open_upload(upload.path)
    assert "/" not in str(caught.value), "the message tells a path"


@pytest.mark.parametrize("name", ACCEPTED)
def test_odd_pictures_are_opened_quickly(name, sent) -> None:
    upload = sent(name, ACCEPTED[name]())
    started = time.perf_counter()
    opened = open_upload(upload.path)
    assert time.perf_counter() - started < 2
    assert opened.tobytes() == open_rgb(upload.path).tobytes()
    assert opened.mode == "RGB" and not opened.info


def test_of_a_film_the_first_frame_counts(sent) -> None:
    opened = open_upload(sent("pages.tiff", film("TIFF", 100)).path)
    first = open_upload(sent("first.tiff", film("TIFF", 1)).path)
    assert opened.tobytes() == first.tobytes()


def test_markup_within_the_pixels_of_a_picture_does_no_harm(sent) -> None:
    pixels = np.frombuffer(b"<svg >" * 5000, np.uint8)[:29_700].reshape(99, 100, 3)
    framed = Image.new("RGB", (100, 140))
    framed.paste(Image.fromarray(pixels), (0, 41))
    content = encoded(framed, "PPM")
    assert b"<svg >" in content
    assert open_upload(sent("stored.ppm", content).path).size == (100, 140)


@pytest.mark.parametrize("name", ZIPS)
def test_a_bad_zip_is_refused_as_a_whole_with_a_reason(name, sent, tmp_path) -> None:
    make, reason = ZIPS[name]
    folder = tmp_path / "unpacked"
    found, refused = list_uploads([sent(name, make()), sent("a.jpg", picture())], folder)
    assert [upload.name for upload in found] == ["a.jpg"]
    ((refused_name, told),) = refused
    assert refused_name == name and reason in told
    assert str(tmp_path) not in told
    assert not (tmp_path / "up.jpg").exists()


def test_a_zip_gives_its_pictures_by_their_names(sent, tmp_path) -> None:
    packed = zipped({"Apple/2.jpg": picture(), "1.png": picture("PNG"), "notes.txt": b"x"})
    found, refused = list_uploads([sent("fruits.ZIP", packed)], tmp_path / "unpacked")
    assert sorted(upload.name for upload in found) == ["1.png", "2.jpg"] and not refused
    assert all(open_upload(upload.path) for upload in found)


def test_too_many_pictures_are_refused(sent, tmp_path) -> None:
    one = sent("a.jpg", b"")
    with pytest.raises(InputError, match="Send fewer"):
        list_uploads([one] * 201, tmp_path)
    packed = sent("many.zip", zipped({f"{n}.jpg": b"x" for n in range(201)}))
    with pytest.raises(InputError, match="Send fewer"):
        list_uploads([packed], tmp_path / "unpacked")


def test_a_zip_that_unpacks_to_too_much_is_refused(sent, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(uploads, "MAX_UNPACKED_BYTES", 1000)
    _, ((_, told),) = list_uploads([sent("a.zip", zipped({"a.jpg": bytes(5000)}))], tmp_path / "z")
    assert "unpacks to more than 1,000 bytes" in told


def test_names_are_shown_without_folders_and_control_characters() -> None:
    assert shown_name("C:\\fotos\\a.jpg") == shown_name("../x/a.jpg") == "a.jpg"
    assert shown_name("a\n\x1b[31m.jpg") == "a[31m.jpg"
    assert shown_name("/") == "picture"
    assert len(shown_name("a" * 500 + ".jpg")) == 120
