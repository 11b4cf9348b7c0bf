"""Any usual image file becomes upright RGB; anything else is refused with a reason."""

import io

import numpy as np
import pytest
from conftest import paint
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from hffruits.images import list_images, open_rgb, open_small


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
def test_exif_orientation_turns_the_picture_upright(orientation):
    upright = Image.new("RGB", (16, 32), "black")
    upright.paste("white", (0, 0, 16, 16))  # the upper half is white
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Image.Transpose that a camera would store
    stored = upright.transpose(Image.Transpose(undo[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    rgb = open_rgb(encode(stored, "JPEG", exif=exif, quality=95))
    assert rgb.size == (16, 32)
    assert min(rgb.getpixel((8, 4))) > 200 and max(rgb.getpixel((8, 28))) < 60


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".gif", ".bmp", ".tif"])
def test_a_sound_file_opens_small_with_its_format_and_size(tmp_path, suffix):
    path = paint(tmp_path / f"a{suffix}", size=(800, 600))
    image, form, size = open_small(path, 100)
    assert size == (800, 600) and min(image.size) >= 100 and image.mode == "RGB"
    assert form == Image.open(path).format
    if suffix == ".jpg":
        assert image.size == (200, 150)  # decoded at a quarter of its size


def test_a_small_sideways_photo_is_upright_and_so_is_its_size(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg", exif=exif)
    image, _, size = open_small(tmp_path / "a.jpg", 8)
    assert size == (20, 30) and image.height > image.width


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".gif", ".bmp", ".tif"])
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
