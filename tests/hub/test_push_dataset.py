"""Photos pushed to a Hub as a clean dataset, and read again by `datasets` and by training."""

import io
import shutil
from pathlib import Path

import datasets
import numpy as np
import pytest
from huggingface_hub import DatasetCard
from PIL import ExifTags, Image
from support import warm
from support.drawing import FRUITS, draw_fruit
from support.hub_server import Fault
from support.runs import tiny_arguments

from hffruits import InputError
from hffruits.data.arguments import DataArguments
from hffruits.data.images import open_rgb, readable_formats
from hffruits.hub.exif_gps import has_location, without_location
from hffruits.hub.push_dataset import push_data

FRUIT_DATA = ("dataset", "user/fruits")


def push(root: Path, **options):
    return push_data(DataArguments(data_dir=str(root)), "user/fruits", **options)


def files_of(hub) -> dict[str, bytes]:
    return hub.repos[FRUIT_DATA].files


def parquet(hub) -> list[str]:
    return sorted(name for name in files_of(hub) if name.endswith(".parquet"))


def pushed_photos(cache: Path) -> list[bytes]:
    """The bytes of all photos of the set as it is now."""
    rows = datasets.load_dataset("user/fruits", cache_dir=str(cache))
    plain = rows.cast_column("image", datasets.Image(decode=False))
    return [row["image"]["bytes"] for part in plain.values() for row in part]


@pytest.fixture
def fruits(drawn_fruits, tmp_path) -> Path:
    return shutil.copytree(drawn_fruits, tmp_path / "fruits")


def test_what_is_pushed_is_read_again_photo_by_photo(local_hub, fruits, tmp_path):
    pushed, written = push(fruits, license="cc-by-4.0")
    assert pushed.changed and written["images"] == {"train": 32, "validation": 12, "test": 20}
    rows = datasets.load_dataset("user/fruits", cache_dir=str(tmp_path / "read"))
    names = list(FRUITS)[:4]
    assert rows["train"].features["label"].names == sorted(names)
    for split, own in rows.items():
        undecoded = own.cast_column("image", datasets.Image(decode=False))
        found = {
            (row["image"]["bytes"], own.features["label"].int2str(row["label"]))
            for row in undecoded
        }
        wanted = {(path.read_bytes(), path.parent.name) for path in (fruits / split).rglob("*.png")}
        assert found == wanted


def test_photos_outside_of_the_tables_folder_are_not_published(local_hub, fruits, tmp_path):
    photos = sorted((fruits / "train").rglob("*.png"))
    lines = [f"../fruits/{path.relative_to(fruits)},{path.parent.name}\n" for path in photos]
    (tmp_path / "table").mkdir()
    table = tmp_path / "table" / "a.csv"
    table.write_text("path,label\n" + "".join(lines))
    with pytest.raises(InputError, match="32 of its photos lie outside its folder"):
        push(table)
    assert FRUIT_DATA not in local_hub.repos


def test_a_models_folder_is_no_data(local_hub, trained):
    with pytest.raises(InputError, match=r"a model, not photos\. Run hffruits push"):
        push(trained)


def test_a_model_is_trained_from_what_was_pushed(local_hub, fruits, tmp_path):
    from hffruits.training.run import train

    push(fruits)
    data, model, arguments = tiny_arguments(fruits, tmp_path / "run")
    data.data_dir, data.dataset_name = None, "user/fruits"
    metrics = train(data, model, arguments)
    assert metrics["data"]["images"] == {"train": 32, "validation": 12, "test": 20}
    card = (tmp_path / "run" / "README.md").read_text()
    assert "datasets:\n- user/fruits" in card


def test_broken_files_conflicts_copies_and_leaks_stay_here(local_hub, fruits):
    first = next((fruits / "train").glob("*/0.png"))
    shutil.copy(first, first.with_name("copy.png"))
    (first.with_name("broken.png")).write_bytes(b"no image")
    shutil.copy(first, fruits / "test" / first.parent.name / "leak.png")
    _, written = push(fruits)
    assert written["images"]["train"] == 31  # the test keeps what is in both
    assert written["left_out"] == {"can't be used": 1, "near-duplicate": 2}
    card = files_of(local_hub)["README.md"].decode()
    assert "- 1 can't be used" in card and "- 2 near-duplicate" in card


def test_the_card_passes_the_hubs_own_check_and_counts_each_class(local_hub, fruits):
    push(fruits, license="cc-by-4.0")
    card = DatasetCard(files_of(local_hub)["README.md"].decode())
    card.validate()
    assert card.data.task_categories == ["image-classification"]
    assert card.data.size_categories == ["n<1K"] and card.data.license == "cc-by-4.0"
    for name in list(FRUITS)[:4]:
        assert f"| {name} | 8 | 3 | 5 |" in card.text
    assert 'load_dataset("user/fruits")' in card.text and "hffruits train user/fruits" in card.text


def test_splits_that_the_data_lacks_are_made_and_reported(local_hub, make_folder):
    root = make_folder({"Apple": 30, "Banana": 30})
    _, written = push(root)
    assert sum(written["images"].values()) == 60 and len(written["images"]) == 3
    assert "validation and test made by" in files_of(local_hub)["README.md"].decode()


def test_coarse_labels_come_along(local_hub, tmp_path):
    for folder, name in (("Apple/Gala", "Apple"), ("Apple/Fuji", "Cherry"), ("Pear", "Pear")):
        (tmp_path / "nested" / folder).mkdir(parents=True)
        for seed in range(12):
            draw_fruit(name, seed=seed, size=48).save(tmp_path / "nested" / folder / f"{seed}.png")
    push(tmp_path / "nested")
    assert files_of(local_hub)["coarse_labels.csv"] == b"Fuji,Apple\nGala,Apple\nPear,Pear\n"


# ---- shards, again, and faults ----


def test_the_same_photos_make_no_new_commit_wherever_they_lie(local_hub, fruits, tmp_path):
    first, _ = push(fruits, shard_bytes=30_000)
    assert len(parquet(local_hub)) > 3
    moved = shutil.copytree(fruits, tmp_path / "elsewhere")
    for number, file in enumerate(sorted(moved.rglob("*.png"))):
        file.rename(file.with_name(f"renamed-{number}.png"))
    sent = local_hub.count("PUT", "/lfs/")
    second, _ = push(moved, shard_bytes=30_000)
    assert not second.changed and second.commit == first.commit
    assert local_hub.count("PUT", "/lfs/") == sent


def test_shards_that_are_no_more_go_away(local_hub, fruits):
    push(fruits, shard_bytes=30_000)
    many = parquet(local_hub)
    push(fruits)
    assert len(parquet(local_hub)) == 3 < len(many)


def test_an_interrupted_push_leaves_the_dataset_unchanged_and_can_be_resumed(local_hub, fruits):
    push(fruits)
    before = dict(files_of(local_hub))
    for file in sorted((fruits / "train").rglob("0.png")):
        file.unlink()
    local_hub.faults.append(Fault("/lfs/", method="PUT", status=403, after=2))
    with pytest.raises(InputError) as raised:
        push(fruits, shard_bytes=30_000)
    assert "\n" not in str(raised.value) and files_of(local_hub) == before
    done = local_hub.count("PUT", "/lfs/", 200)
    assert push(fruits, shard_bytes=30_000)[0].changed
    shards = len(parquet(local_hub))
    # those that arrived the first time, and shards that didn't change, aren't sent again
    assert local_hub.count("PUT", "/lfs/", 200) - done <= shards - 2


def test_rows_to_train_on_are_mixed_and_others_in_order(local_hub, fruits, tmp_path):
    push(fruits)
    rows = datasets.load_dataset("user/fruits", cache_dir=str(tmp_path / "read"))
    assert rows["train"]["label"][:] != sorted(rows["train"]["label"])
    assert rows["test"]["label"][:] == sorted(rows["test"]["label"])


@pytest.mark.slow
def test_a_push_without_a_login_is_refused_before_the_photos_are_read(local_hub, fruits, tmp_path):
    environment = local_hub.environment(tmp_path / "home", token=None)
    words = ["hffruits", "push-data", fruits, "user/fruits"]
    done = warm.run(words, env=environment, folder=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith(
        "hffruits push-data: error: user/fruits: pushing"
    )
    assert len(done.stderr.splitlines()) == 1


# ---- where photos were taken ----


def located(form: str, *, xmp: bytes | None = None) -> bytes:
    readable_formats()  # has Pillow write HEIF, too
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Make] = "Phone"
    exif[ExifTags.Base.GPSInfo] = {1: "N", 2: (59.0, 19.0, 46.0), 3: "E", 4: (18.0, 4.0, 7.0)}
    file = io.BytesIO()
    options = {"xmp": xmp} if xmp else {}
    draw_fruit("Pear", seed=1, size=64).save(file, form, exif=exif, **options)
    return file.getvalue()


XMP = b"<x:xmpmeta><exif:GPSLatitude>59,19.7N</exif:GPSLatitude></x:xmpmeta>"


def test_the_position_is_found_and_removed_in_a_photo_of_any_size():
    content, start = located("JPEG"), b"\xff\xc0\0\x11\x08"  # of the header that states the size
    assert content.count(start + b"\0\x40\0\x40") == 1
    content = content.replace(start + b"\0\x40\0\x40", start + b"\x4e\x20\x4e\x20")
    assert has_location(content) and not has_location(without_location(content))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("xmp", [None, XMP], ids=["exif", "exif and xmp"])
def test_the_position_goes_and_the_pixels_and_the_orientation_stay(form, xmp):
    content = located(form, xmp=xmp)
    public = without_location(content)
    assert has_location(content) and not has_location(public) and b"GPSLatitude" not in public
    old, new = (Image.open(io.BytesIO(data)) for data in (content, public))
    assert np.array_equal(old.convert("RGB"), new.convert("RGB"))
    assert new.getexif()[ExifTags.Base.Orientation] == 6
    assert new.getexif()[ExifTags.Base.Make] == "Phone"


@pytest.mark.parametrize("xmp", [None, XMP], ids=["exif", "exif and xmp"])
def test_the_position_in_a_heic_goes_and_every_other_byte_stays(xmp):
    content = located("HEIF", xmp=xmp)
    public = without_location(content)
    assert has_location(content) and not has_location(public) and b"GPSLatitude" not in public
    assert len(public) == len(content)
    old, new = open_rgb(content), open_rgb(public)
    assert np.array_equal(old, new) and new.size == (64, 64)
    assert Image.open(io.BytesIO(public)).getexif()[ExifTags.Base.Make] == "Phone"


def test_every_frame_of_a_photo_loses_its_position():
    frames = []
    for seed in (1, 2):
        exif = Image.Exif()
        exif[ExifTags.Base.GPSInfo] = {1: "N", 2: (59.0 + seed, 19.0, 46.0)}
        frames.append(draw_fruit("Pear", seed=seed, size=64))
        frames[-1].info["exif"] = exif.tobytes()
        frames[-1].encoderinfo = {"exif": exif}
    file = io.BytesIO()
    frames[0].save(file, "MPO", save_all=True, append_images=frames[1:], exif=exif)
    content = file.getvalue()
    assert Image.open(io.BytesIO(content)).n_frames == 2 and has_location(content)
    public = without_location(content)
    assert not has_location(public) and len(public) == len(content)
    assert Image.open(io.BytesIO(public)).n_frames == 2


def test_a_photo_in_printing_colours_loses_its_position():
    """Its EXIF is in two blocks, as other programs write them, which only saving again fixes."""
    file = io.BytesIO()
    exif = Image.open(io.BytesIO(located("JPEG"))).info["exif"]
    draw_fruit("Pear", seed=1, size=64).convert("CMYK").save(file, "JPEG", exif=exif)
    plain = file.getvalue()
    place = plain.index(b"\xff\xe1")
    length = int.from_bytes(plain[place + 2 : place + 4], "big")
    block = plain[place + 4 : place + 2 + length]
    cut = len(block) - 40
    blocks = (block[:cut], b"Exif\0\0" + block[cut:])
    headers = b"".join(b"\xff\xe1" + (len(b) + 2).to_bytes(2, "big") + b for b in blocks)
    content = plain[:place] + headers + plain[place + 2 + length :]
    assert has_location(content) and Image.open(io.BytesIO(content)).mode == "CMYK"
    public = without_location(content)
    assert not has_location(public) and Image.open(io.BytesIO(public)).size == (64, 64)


def test_a_photo_without_a_position_stays_as_it_is_byte_by_byte(drawn_fruits):
    content = next(drawn_fruits.rglob("*.png")).read_bytes()
    assert without_location(content) is content


def test_positions_are_not_published_unless_asked(local_hub, fruits, tmp_path):
    next((fruits / "train").glob("*/0.png")).with_name("located.jpg").write_bytes(located("JPEG"))
    _, written = push(fruits)
    assert (
        written["located"] == 1
        and "whose GPS position was removed" in files_of(local_hub)["README.md"].decode()
    )
    assert not any(map(has_location, pushed_photos(tmp_path / "without")))
    _, written = push(fruits, keep_location=True)
    assert written["located"] == 0
    assert sum(map(has_location, pushed_photos(tmp_path / "with"))) == 1
