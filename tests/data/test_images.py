"""Any usual image file becomes upright RGB; anything else is rejected with a reason."""

import io
import multiprocessing
import os
import struct
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from support.runs import heic, paint

from hffruits.data import images
from hffruits.data.images import (
    Kind,
    complete_jpeg,
    is_image_file,
    kind_of,
    list_images,
    may_be_image,
    open_rgb,
    open_small,
)

READ = [".jpg", ".png", ".webp", ".gif", ".bmp", ".tif", ".avif", ".heic", ".hif"]


def encode(image: Image.Image, fmt: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "CMYK", "YCbCr", "LA", "RGBA", "I;16", "F"])
def test_white_stays_white_in_every_mode(mode):
    if mode == "I;16":
        image = Image.fromarray(np.full((4, 6), 65535, np.uint16))
    elif mode == "F":
        image = Image.new("F", (6, 4), 255)
    else:
        image = Image.new("RGB", (6, 4), "white").convert(mode)
    rgb = open_rgb(image)
    assert (rgb.mode, rgb.size) == ("RGB", (6, 4))
    assert np.asarray(rgb).min() >= 252


def test_16_bit_greyscale_is_scaled_and_not_clipped():
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    rgb = np.asarray(open_rgb(encode(Image.fromarray(ramp))))
    assert np.abs(rgb[..., 0].astype(int) - (ramp / 257).round()).max() <= 1


def test_transparent_pixels_become_white_as_in_product_photos():
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    image.putpixel((0, 0), (0, 128, 0, 255))
    rgb = open_rgb(encode(image))
    assert rgb.getpixel((0, 0)) == (0, 128, 0)
    assert rgb.getpixel((3, 3)) == (255, 255, 255)


def test_a_palette_with_transparency_becomes_white_there_too():
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    rgb = open_rgb(encode(image, transparency=1))
    assert rgb.getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_the_image_upright(orientation):
    upright = Image.new("RGB", (16, 32), "black")
    upright.paste("white", (0, 0, 16, 16))  # the upper half is white
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Image.Transpose that a camera would store
    stored = upright.transpose(Image.Transpose(undo[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    block = exif.tobytes()
    for content in (
        encode(stored, "JPEG", exif=block, quality=95),
        encode(stored, "AVIF", exif=block, quality=95),
        heic(stored, exif=block),
    ):
        for rgb, size in ((open_rgb(content), (16, 32)), open_small(content, 8)[::2]):
            assert size == (16, 32) and rgb.height > rgb.width
            middle = rgb.width // 2
            assert min(rgb.getpixel((middle, rgb.height // 8))) > 200
            assert max(rgb.getpixel((middle, rgb.height * 7 // 8))) < 60


@pytest.mark.parametrize("suffix", READ)
def test_a_sound_file_opens_small_with_its_format_and_size(tmp_path, suffix):
    path = paint(tmp_path / f"a{suffix}", size=(800, 600))
    image, form, size = open_small(path, 100)
    assert size == (800, 600) and min(image.size) >= 100 and image.mode == "RGB"
    assert form == {".heic": "HEIF", ".hif": "HEIF"}.get(suffix) or Image.open(path).format == form
    if suffix == ".jpg":
        assert image.size == (200, 150)  # decoded at a quarter of its size


def test_a_small_sideways_photo_is_upright_and_so_is_its_size(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg", exif=exif)
    image, _, size = open_small(tmp_path / "a.jpg", 8)
    assert size == (20, 30) and image.height > image.width


@pytest.mark.parametrize("suffix", READ)
def test_a_truncated_file_does_not_open(tmp_path, suffix):
    path = paint(tmp_path / f"a{suffix}", size=(200, 150))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(OSError):
        open_small(path, 8)
    with pytest.raises(OSError):
        open_rgb(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        (b"hello" * 100, "not an image"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 50, "not an image"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + b"\0" * 50, "JPEG XL isn't read: export it as JPEG"),
        (b"II*\0\x10\0\0\0CR\2\0" + b"\0" * 50, "camera raw isn't read: export it as JPEG"),
        (b"FUJIFILMCCD-RAW 0201FF", "camera raw"),
        (b"8BPS\0\1" + b"\0" * 50, "an editor's file"),
        (b"\0\0\0\x14ftypqt  " + b"\0" * 50, "a video, not a photo"),
    ],
)
def test_what_is_no_image_has_a_reason(tmp_path, content, reason):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(OSError, match=reason):
        open_small(path, 8)
    with pytest.raises(OSError, match=reason):
        open_rgb(path)
    with pytest.raises(OSError, match=reason):
        open_rgb(content)


@pytest.mark.parametrize("side", [3_000, 20_000])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path, side):
    path = tmp_path / "bomb.png"
    Image.new("1", (side, side)).save(path)
    assert path.stat().st_size < 100_000
    with pytest.raises(OSError, match="pixels"):
        open_small(path, 8, max_pixels=5_000_000)
    with pytest.raises(OSError, match="pixels"):
        open_rgb(path, max_pixels=5_000_000)


# ---- very large JPEGs, and truncated ones ----


@pytest.fixture(scope="module")
def huge() -> bytes:
    """12000 x 9000, as phones and medium-format cameras take them: a gradient."""
    return encode(noise(480, 360).convert("L").resize((12_000, 9000)), "JPEG", quality=50)


def with_size(jpeg: bytes, width: int, height: int) -> bytes:
    """A JPEG whose header states another size."""
    with Image.open(io.BytesIO(jpeg)) as image:
        stated = struct.pack(">HH", image.height, image.width)
    assert jpeg.count(stated) == 1
    return jpeg.replace(stated, struct.pack(">HH", height, width))


def test_a_jpeg_of_12000_x_9000_is_decoded_at_half_its_size_in_every_way(huge, tmp_path):
    path = tmp_path / "phone.jpg"
    path.write_bytes(huge)
    whole = open_rgb(path)
    assert whole.size == (6000, 4500)
    assert open_rgb(huge).tobytes() == whole.tobytes()
    assert open_rgb(path, max_pixels=170_000_000).tobytes() == whole.tobytes()
    small, form, size = open_small(path, 256)
    assert (form, size, small.size) == ("JPEG", (12_000, 9000), (1500, 1125))
    assert open_small(path, 8000)[0].size == (6000, 4500)


@pytest.mark.parametrize("side", [1, 7, 100, 101])
def test_a_jpeg_within_the_limit_keeps_every_pixel(monkeypatch, side):
    content = encode(noise(104, 80).resize((side, side)), "JPEG")
    with Image.open(io.BytesIO(content)) as image:
        expected = image.convert("RGB").tobytes()
    monkeypatch.setattr(images, "MAX_PIXELS", side * side)
    assert open_rgb(content).tobytes() == expected


@pytest.mark.parametrize(
    ("side", "decoded"), [(101, 51), (200, 100), (201, 51), (400, 100), (401, 51), (799, 100)]
)
def test_a_larger_jpeg_is_decoded_at_the_largest_fraction_that_fits(monkeypatch, side, decoded):
    monkeypatch.setattr(images, "MAX_PIXELS", 10_000)
    content = encode(noise(32, 32).resize((side, side)), "JPEG")
    image = open_rgb(content, max_pixels=10_404)
    assert image.size == (decoded, decoded)
    shrunk = Image.open(io.BytesIO(content)).resize((decoded, decoded), Image.Resampling.BOX)
    assert difference(image, shrunk) < 6


def test_other_formats_and_a_lower_limit_name_the_flag(huge):
    reason = r"4000 x 3000 pixels, over the limit of 1,000,000 \(max_image_pixels\)"
    for form in ("PNG", "JPEG", "WEBP"):
        content = encode(Image.new("RGB", (4000, 3000)), form)
        with pytest.raises(OSError, match=reason):
            open_rgb(content, max_pixels=1_000_000)
    with pytest.raises(OSError, match="12000 x 9000 pixels"):
        open_rgb(huge, max_pixels=10_000_000)  # 27 million as decoded


@pytest.mark.parametrize("options", [{"progressive": True}, {"hidden": b"\xff\xda\0\x0c\3"}])
def test_a_bomb_of_several_scans_is_refused_before_it_is_decoded(options):
    """libjpeg would hold 25 GB for it, at any size that it is decoded at."""
    hidden = options.pop("hidden", b"")
    content = encode(noise(), "JPEG", comment=hidden, **options)
    if hidden:  # a first scan of one component only
        scan = content.index(b"\xff\xda\0\x0c\3", content.index(b"\xff\xc4"))
        one = b"\xff\xfe\0\7" + hidden + b"\xff\xda\0\x08\1" + content[scan + 5 : scan + 7]
        content = content[:scan] + one + content[scan + 11 :]
    with pytest.raises(OSError, match="65500 x 65500 pixels, over the limit"):
        open_rgb(with_size(content, 65_500, 65_500))
    with pytest.raises(OSError, match="65500 x 65500 pixels, over the limit"):
        open_small(with_size(content, 65_500, 65_500), 8)


def test_a_truncated_jpeg_is_completed_while_most_of_its_rows_are_there():
    content = encode(noise(800, 600), "JPEG")
    whole = open_rgb(content)
    for lost in (2, 40, len(content) // 20):
        cut = content[:-lost]
        with pytest.raises(OSError, match="truncated"):
            open_rgb(cut)
        image = open_rgb(complete_jpeg(cut))
        assert image.size == (800, 600)
        assert image.crop((0, 0, 800, 550)).tobytes() == whole.crop((0, 0, 800, 550)).tobytes()
    with pytest.raises(OSError, match=r"3\d% of it is missing"):
        complete_jpeg(content[: len(content) * 2 // 3])
    with pytest.raises(OSError, match="no JPEG"):
        complete_jpeg(encode(noise())[:-20])
    with pytest.raises(OSError, match="Truncated"):
        complete_jpeg(content[:100])


def test_the_end_of_a_large_truncated_photo_is_looked_for_in_little_memory(monkeypatch):
    content = encode(noise(800, 6000), "JPEG")
    seen = []
    monkeypatch.setattr(Image.Image, "crop", _spy_on(Image.Image.crop, seen))
    complete_jpeg(content[:-200])
    assert len(seen) == 1 and seen[0][3] - seen[0][1] <= 64


def _spy_on(function, seen: list):
    def spy(image, box):
        seen.append(box)
        return function(image, box)

    return spy


def test_a_truncated_photo_with_a_plain_edge_lacks_nothing():
    for colour in ("white", "black"):
        image = Image.new("RGB", (800, 600), colour)
        image.paste(noise(400, 200), (200, 100))
        assert open_rgb(complete_jpeg(encode(image, "JPEG")[:-2])).size == (800, 600)


def test_a_png_with_a_huge_text_chunk_is_refused_like_any_broken_file(tmp_path):
    info = PngInfo()
    info.add_text("comment", "x" * 2_000_000, zip=True)
    path = tmp_path / "a.png"
    Image.new("RGB", (4, 4)).save(path, pnginfo=info)
    with pytest.raises(OSError):
        open_small(path, 8)
    with pytest.raises(OSError):
        open_rgb(path)


def test_images_are_listed_sorted_without_hidden_ones(tmp_path):
    shown = [paint(tmp_path / name) for name in ("a/1.JPG", "a/2.png", "b.webp")]
    for name in ("._b.jpg", ".thumbs/1.jpg", "__MACOSX/a/1.jpg"):
        paint(tmp_path / name)
    (tmp_path / "labels.csv").write_text("a,b")
    assert sorted(list_images(tmp_path)) == shown


# ---- HEIC ----


def noise(width: int = 64, height: int = 48, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 255, (height // 8, width // 8, 3), np.uint8)
    return Image.fromarray(values).resize((width, height))


def difference(a: Image.Image, b: Image.Image) -> float:
    return float(np.abs(np.asarray(a, float) - np.asarray(b, float)).mean())


def test_a_heic_photo_is_the_image_that_was_encoded():
    for image in (noise(), noise().convert("L"), noise(63, 47)):
        assert difference(open_rgb(heic(image)), image.convert("RGB")) < 8


def test_of_a_heic_with_several_images_the_primary_one_counts():
    first, second = noise(seed=1), noise(seed=2)
    assert difference(open_rgb(heic(first, second)), first) < 8
    assert difference(open_rgb(heic(first, second, primary_index=1)), second) < 8


def test_a_thumbnail_in_a_heic_stands_for_nothing():
    image = noise(800, 600)
    small, _, size = open_small(heic(image, thumbnails=[128]), 64)
    assert size == (800, 600) and small.size == (800, 600)


def test_a_heic_under_the_brand_of_any_heif_is_read_and_so_is_avif():
    for content in (heic(noise()), encode(noise(), "AVIF")):
        assert open_rgb(content[:8] + b"mif1" + content[12:]).size == (64, 48)


@pytest.mark.parametrize("place", [0.1, 0.3, 0.6, 0.99])
def test_a_damaged_heic_never_crashes_and_has_a_reason_in_one_line(place):
    whole = heic(noise(256, 256))
    for content in (
        whole[: int(place * len(whole))],
        whole[: int(place * len(whole))] + bytes(40) + whole[int(place * len(whole)) + 40 :],
    ):
        try:
            open_rgb(content)
        except OSError as error:
            assert str(error) and "\n" not in str(error)


def test_a_heic_that_states_another_size_than_it_has_is_refused():
    content = heic(Image.new("RGB", (1600, 1600), "red"))
    stated, low = struct.pack(">II", 1600, 1600), struct.pack(">II", 64, 64)
    assert stated in content
    with pytest.raises(OSError, match="1600 x 1600 pixels, over the limit of 1,000,000"):
        open_rgb(content, max_pixels=1_000_000)
    with pytest.raises(OSError, match="1600x1600 exceeds the maximum"):
        open_rgb(content.replace(stated, low), max_pixels=1_000_000)


def test_every_new_process_reads_heic(tmp_path):
    path = paint(tmp_path / "a.heic")
    for way in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(way).Pool(1) as pool:
            assert pool.apply(open_rgb, (path,)).size == (40, 32)


def test_the_module_is_imported_without_the_decoder_of_heic():
    code = "import sys, hffruits.data.images; assert 'pillow_heif' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- photos by name and by content ----


@pytest.mark.parametrize(
    "name", ["photo", "a.jpg_large", "a.JPG.download", "a.mpo", "a.jpeg!d", "a.1", "a.apng"]
)
def test_a_photo_under_any_name_is_listed_and_read(tmp_path, name):
    path = tmp_path / name
    for form in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000"):
        path.write_bytes(encode(noise(), form))
        assert list_images(tmp_path) == [path] and open_rgb(path).size == (64, 48), form
    path.write_bytes(heic(noise()))
    assert list_images(tmp_path) == [path] and open_rgb(path).size == (64, 48)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.JPG", Kind.PHOTO), ("a.b.webp", Kind.PHOTO), ("a.CR2", Kind.UNREAD),
        ("a.mov", Kind.VIDEO), ("a.txt", Kind.NOTE), ("README", Kind.NOTE), ("a.pdf", Kind.OTHER),
        ("IMG_1", Kind.UNKNOWN), ("a.dat", Kind.UNKNOWN), ("._a.jpg", Kind.HIDDEN),
    ],
)  # fmt: skip
def test_a_name_says_what_a_file_is_and_whether_it_may_be_an_image(name, kind):
    assert kind_of(name) is kind
    assert may_be_image(name) == (kind in (Kind.PHOTO, Kind.UNREAD, Kind.UNKNOWN))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a.CR2", "camera raw isn't read"), ("a.nef", "camera raw"), ("a.dng", "camera raw"),
        ("a.jxl", "JPEG XL isn't read"), ("a.psd", "an editor's file"), ("a.svg", "a vector"),
    ],
)  # fmt: skip
def test_a_photo_in_an_unread_format_is_listed_and_refused_by_its_name(tmp_path, name, reason):
    path = tmp_path / name
    path.write_bytes(b"anything")
    assert list_images(tmp_path) == [path]
    with pytest.raises(OSError, match=reason):
        open_rgb(path)


def test_the_thumbnail_of_a_camera_raw_is_not_taken_for_the_photo(tmp_path):
    content = encode(noise(), "TIFF")
    (tmp_path / "a.nef").write_bytes(content)
    for source in (
        tmp_path / "a.nef",
        encode(noise(), "TIFF", tiffinfo={254: 1}),  # a reduced image comes first
        encode(noise(), "TIFF", tiffinfo={50706: b"\1\4\0\0"}),  # DNG
    ):
        with pytest.raises(OSError, match="camera raw isn't read"):
            open_rgb(source)
    assert open_rgb(content).size == (64, 48)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.slow
def test_pipes_in_a_folder_of_photos_are_never_waited_for(make_folder):
    root = make_folder({"A": 20, "B": 20})
    for name in ("A/pipe", "A/pipe.jpg", "pipe.csv"):
        os.mkfifo(root / name)
    code = (
        "import sys\nfrom pathlib import Path\nfrom hffruits.data.images import list_images\n"
        "from hffruits.data.load import load_fruits\n"
        "data = load_fruits(sys.argv[1])\nlist_images(Path(sys.argv[1]))\n"
        "print(sum(map(len, data.values())), [bad.reason for bad in data.skipped])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, root], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == "40 ['not a regular file']"


@pytest.mark.parametrize("suffix", [".pbm", ".pnm", ".PPM"])
def test_every_kind_of_portable_map_is_listed_and_read(tmp_path, suffix):
    mode = "1" if suffix == ".pbm" else "RGB"
    Image.new(mode, (8, 6)).save(tmp_path / f"a{suffix}", "PPM")
    (path,) = list_images(tmp_path)
    assert open_rgb(path).size == (8, 6)


def test_files_with_usual_names_are_not_opened_to_be_listed(tmp_path, monkeypatch):
    names = ("a.jpg", "b.HEIC", "c.cr2", "d.txt", "e.mov", "f.json")
    paths = [tmp_path / name for name in names]
    for path in paths:
        path.touch()
    monkeypatch.setattr("pathlib.Path.open", lambda *_, **__: pytest.fail("opened"))
    assert list(map(is_image_file, paths)) == [True, True, True, False, False, False]
