"""Uploads: images are opened, other files are rejected with a reason that has no path."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from support.hostile_files import (
    ACCEPTED,
    REFUSED,
    ZIPS,
    encoded,
    film,
    image_bytes,
    last_scan,
    zipped,
)

from hffruits.core.errors import InputError
from hffruits.data.images import open_rgb
from hffruits.demo import uploads
from hffruits.demo.uploads import NOT_SENT, Upload, list_uploads, open_upload, shown_name


def open_sent(upload: Upload) -> Image.Image:
    return open_upload(upload.path, upload.path.parent)


@pytest.fixture
def sent(tmp_path: Path) -> Callable[[str, bytes], Upload]:
    def send(name: str, content: bytes) -> Upload:
        (tmp_path / "sent").mkdir(exist_ok=True)
        path = tmp_path / "sent" / name
        path.write_bytes(content)
        return Upload(name, path)

    return send


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_plain_image_is_refused_with_a_reason(name, sent) -> None:
    make, reason = REFUSED[name]
    upload = sent(name, make())
    with pytest.raises(InputError, match=reason) as caught:
        open_sent(upload)
    assert "/" not in str(caught.value), "the message holds a path"


@pytest.mark.parametrize("name", ACCEPTED)
def test_odd_images_are_opened(name, sent) -> None:
    upload = sent(name, ACCEPTED[name]())
    opened = open_sent(upload)
    assert opened.tobytes() == open_rgb(upload.path).tobytes()
    assert opened.mode == "RGB" and not opened.info


PLACES: dict[
    str, Callable[[Path, Path], object]
] = {  # what is made at a path, of a photo elsewhere
    "missing.jpg": lambda path, photo: None,
    "link.jpg": lambda path, photo: path.symlink_to(photo),
    "loop.jpg": lambda path, photo: path.symlink_to(path),
    "device.jpg": lambda path, photo: path.symlink_to("/dev/zero"),
    "terminal.jpg": lambda path, photo: path.symlink_to("/dev/tty"),
    "fifo.jpg": lambda path, photo: os.mkfifo(path),
    "folder.jpg": lambda path, photo: path.mkdir(),
    "linked/photo.jpg": lambda path, photo: path.parent.symlink_to(photo.parent),
    "../photo.jpg": lambda path, photo: None,
    "nul\0.jpg": lambda path, photo: None,
    "surrogate\ud800.jpg": lambda path, photo: None,
    "a" * 5000: lambda path, photo: None,
    "": lambda path, photo: None,
}


@pytest.mark.parametrize("name", PLACES)
def test_only_a_regular_file_below_the_folder_is_opened_and_all_else_is_refused_the_same(
    name, tmp_path
) -> None:
    root, photo = tmp_path / "root", tmp_path / "photo.jpg"
    root.mkdir()
    photo.write_bytes(image_bytes())
    PLACES[name](root / name, photo)
    for path in (root / name, str(photo), "/dev/zero", "photo.jpg", "~", "file:///etc/passwd"):
        with pytest.raises(InputError) as caught:
            open_upload(path, root)
        assert str(caught.value) == NOT_SENT
        assert list_uploads([Upload("a.zip", Path(f"{path}.zip"))], tmp_path, root)[1] == [
            ("a.zip", NOT_SENT)
        ]


def test_a_link_within_the_folder_is_followed(tmp_path) -> None:
    (tmp_path / "photo.jpg").write_bytes(image_bytes())
    (tmp_path / "link.jpg").symlink_to("photo.jpg")
    assert open_upload(tmp_path / "link.jpg", tmp_path).size == (160, 160)


def test_no_more_is_read_of_a_file_than_a_photo_may_have(sent, monkeypatch) -> None:
    """Whatever its size was when it was opened."""
    upload = sent("grown.jpg", image_bytes() + bytes(1000))
    monkeypatch.setattr(uploads, "MAX_IMAGE_BYTES", 1000)
    monkeypatch.setattr(uploads.os, "fstat", lambda _: os.stat_result((0o100644, *[0] * 9)))
    with pytest.raises(InputError, match="over the limit"):
        open_sent(upload)


def test_zips_unpack_to_no_more_than_a_quarter_of_the_space(sent, tmp_path, monkeypatch) -> None:
    disk = uploads.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(uploads.shutil, "disk_usage", lambda _: disk._replace(free=4000))
    upload = sent("a.zip", zipped({"a.jpg": bytes(5000)}))
    _, ((_, why),) = list_uploads([upload], tmp_path / "z", tmp_path)
    assert "unpacks to more than 1,000 bytes" in why


def test_the_first_frame_of_an_animation_is_used(sent) -> None:
    opened = open_sent(sent("pages.tiff", film("TIFF", 100)))
    first = open_sent(sent("first.tiff", film("TIFF", 1)))
    assert opened.tobytes() == first.tobytes()


def test_markup_within_the_pixels_of_an_image_does_no_harm(sent) -> None:
    framed = Image.frombytes("P", (300, 140), bytes(300 * 41) + b"<svg >" * (50 * 99))
    framed.putpalette(bytes(768))
    content = encoded(framed, "PNG", compress_level=0)  # of a palette's it filters nothing
    assert b"<svg >" in content
    assert open_sent(sent("stored.png", content)).size == (300, 140)


def test_a_file_that_is_no_image_is_not_searched_for_other_formats(sent, monkeypatch) -> None:
    monkeypatch.setattr(uploads, "_is_something_else_too", None)
    with pytest.raises(InputError, match="not an image"):
        open_sent(sent("junk.jpg", bytes(10**6)))


def test_no_hidden_end_or_length_makes_a_jpeg_of_many_scans_look_like_one_of_few(sent) -> None:
    whole = image_bytes(progressive=True)
    scan = last_scan(whole)
    for hiding in (
        b"\xff\xfe\0\4\xff\xd9",  # an end within a comment
        b"\xff\x02",  # these have no length
        b"\xff\xd0",
        b"\xff" * 9,
    ):
        content = whole[:-2] + (hiding + scan) * 30 + b"\xff\xd9"
        with pytest.raises(InputError, match="scans"):
            open_sent(sent("scans.jpg", content))


def test_scans_behind_the_end_and_in_a_thumbnail_do_not_count(sent) -> None:
    """As in a motion photo, whose video holds any bytes."""
    whole = image_bytes(progressive=True, comment=b"\xff\xda" * 50) + b"\xff\xda" * 50
    assert open_sent(sent("motion.jpg", whole)).size == (160, 160)


@pytest.mark.parametrize("name", ZIPS)
def test_a_bad_zip_is_refused_as_a_whole_with_a_reason(name, sent, tmp_path) -> None:
    make, reason = ZIPS[name]
    folder = tmp_path / "unpacked"
    found, refused = list_uploads(
        [sent(name, make()), sent("a.jpg", image_bytes())], folder, tmp_path
    )
    assert [upload.name for upload in found] == ["a.jpg"]
    ((refused_name, why),) = refused
    assert refused_name == name and reason in why
    assert str(tmp_path) not in why
    assert not (tmp_path / "up.jpg").exists()


def test_a_zip_gives_its_images_by_their_names(sent, tmp_path) -> None:
    packed = zipped({"Apple/2.jpg": image_bytes(), "1.png": image_bytes("PNG"), "notes.txt": b"x"})
    found, refused = list_uploads([sent("fruits.ZIP", packed)], tmp_path / "unpacked", tmp_path)
    assert sorted(upload.name for upload in found) == ["1.png", "2.jpg"] and not refused
    assert all(open_sent(upload) for upload in found)


def test_what_a_zip_holds_is_opened_by_its_content_or_refused_with_a_reason(sent, tmp_path) -> None:
    files = {"1.heic": image_bytes("HEIF"), "2": image_bytes(), "3.nef": b"x", "4.txt": b"x"}
    found, refused = list_uploads([sent("a.zip", zipped(files))], tmp_path / "unpacked", tmp_path)
    assert sorted(upload.name for upload in found) == ["1.heic", "2", "3.nef"] and not refused
    opened = {upload.name: upload.path for upload in found}
    sizes = {open_upload(opened[name], tmp_path).size for name in ("1.heic", "2")}
    assert len(sizes) == 1
    with pytest.raises(InputError, match="not an image"):
        open_upload(opened["3.nef"], tmp_path)


def test_too_many_images_are_refused(sent, tmp_path) -> None:
    one = sent("a.jpg", b"")
    with pytest.raises(InputError, match="Send fewer"):
        list_uploads([one] * 201, tmp_path, tmp_path)
    packed = sent("many.zip", zipped({f"{n}.jpg": b"x" for n in range(201)}))
    with pytest.raises(InputError, match="Send fewer"):
        list_uploads([packed], tmp_path / "unpacked", tmp_path)


def test_of_a_zip_with_too_many_images_no_more_than_the_most_are_unpacked(sent, tmp_path) -> None:
    files = [
        sent("a.zip", zipped({f"{n}.jpg": b"x" for n in range(150)})),
        sent("b.zip", zipped({f"{n}.jpg": b"x" for n in range(1000)})),
        sent("c.jpg", image_bytes()),
    ]
    with pytest.raises(InputError, match="200 photos"):
        list_uploads(files, tmp_path / "unpacked", tmp_path)
    assert len(list((tmp_path / "unpacked").rglob("*.jpg"))) == 199


def test_so_many_zips_are_refused_unopened(sent, tmp_path) -> None:
    zips = [sent(f"{n}.zip", b"no zip") for n in range(201)]
    with pytest.raises(InputError, match="201 files"):
        list_uploads(zips, tmp_path / "unpacked", tmp_path)


def test_a_file_that_is_given_twice_counts_once(sent, tmp_path) -> None:
    packed, single = sent("a.zip", zipped({"b.jpg": image_bytes()})), sent("c.jpg", image_bytes())
    found, refused = list_uploads([packed, single] * 100, tmp_path / "unpacked", tmp_path)
    assert [upload.name for upload in found] == ["b.jpg", "c.jpg"] and not refused


def test_zips_share_the_bytes_that_they_may_unpack_to(sent, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(uploads, "MAX_UNPACKED_BYTES", 1000)
    bad = zipped({"a.jpg": bytes(300), "../b.jpg": b""})  # refused, but something was written
    files = [sent("bad.zip", bad)]
    files += [sent(f"{n}.zip", zipped({f"{n}.jpg": bytes(300)})) for n in range(4)]
    found, refused = list_uploads(files, tmp_path / "unpacked", tmp_path)
    assert [upload.name for upload in found] == ["0.jpg", "1.jpg"]
    assert [name for name, _ in refused] == ["bad.zip", "2.zip", "3.zip"]
    assert "more than 1,000 bytes, with the zips before it" in refused[1][1]
    assert len(list((tmp_path / "unpacked").rglob("*.jpg"))) == 2


def test_a_zip_that_unpacks_to_too_much_is_refused(sent, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(uploads, "MAX_UNPACKED_BYTES", 1000)
    _, ((_, why),) = list_uploads(
        [sent("a.zip", zipped({"a.jpg": bytes(5000)}))], tmp_path / "z", tmp_path
    )
    assert "unpacks to more than 1,000 bytes" in why


def test_names_are_shown_without_folders_and_control_characters() -> None:
    assert shown_name("C:\\fotos\\a.jpg") == shown_name("../x/a.jpg") == "a.jpg"
    assert shown_name("a\n\x1b[31m.jpg") == "a[31m.jpg"
    assert shown_name("/") == "photo"
    assert len(shown_name("a" * 500 + ".jpg")) == 120
