"""Fuzzing: any input is handled or rejected with an InputError, never another error or a hang.

More examples, new ones each time: `HFFRUITS_FUZZ=5000 pytest tests/integration/test_fuzz.py`.
"""

import io
import json
import math
import os
import shutil
import sys
import tarfile
import tempfile
import warnings
import zipfile
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from support.drawing import draw_fruit
from support.hostile_files import encoded, film, image_bytes, long_gif, png_bomb, unsized_bmp
from support.runs import UNTRAINED_LABELS, save_untrained

from hffruits import FruitClassifier, InputError, load_fruits
from hffruits.core.durations import parse_duration
from hffruits.data.images import MAX_PIXELS, open_rgb, open_small
from hffruits.demo.uploads import Upload, list_uploads, open_upload
from hffruits.inference.classifier import UnreadableImageError
from hffruits.training.checkpointing import SUMS, find_fault, newest_whole
from hffruits.training.parser import parse_train_arguments
from hffruits.training.run_dir import choose_run_dir

MORE = int(os.environ.get("HFFRUITS_FUZZ", 0))


def fuzz(examples: int):
    """So many examples, the same ones each time unless more are asked for."""
    return settings(
        max_examples=max(examples, MORE),
        derandomize=not MORE,
        deadline=20_000,  # milliseconds for one: nothing may hang
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


SMALL = draw_fruit("Kiwi", seed=1, size=48)
IMAGES = [
    *(encoded(SMALL, form) for form in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")),
    encoded(SMALL, "JPEG2000"),
    encoded(SMALL, "JPEG", progressive=True, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0"),
    encoded(SMALL.convert("P"), "PNG", transparency=0),
    encoded(SMALL.convert("L").convert("I"), "TIFF"),
    encoded(SMALL, "TIFF", compression="tiff_lzw"),
    encoded(SMALL.convert("CMYK"), "JPEG"),
    film("GIF", 3), film("WEBP", 3), image_bytes("AVIF"), image_bytes("HEIF"), png_bomb(),
    unsized_bmp(),
    long_gif(50),
]  # fmt: skip


@st.composite
def damaged(draw, contents: list[bytes]) -> bytes:
    """One of them with some bytes changed, lost, doubled or put in."""
    content = bytearray(draw(st.sampled_from(contents)))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        length = draw(st.integers(1, 40))
        kind = draw(st.sampled_from(["set", "cut", "end", "double", "insert"]))
        if kind == "set":
            content[at : at + length] = draw(st.binary(min_size=length, max_size=length))
        elif kind == "cut":
            del content[at : at + length]
        elif kind == "end":
            del content[at:]
        elif kind == "double":
            content[at:at] = content[at : at + length]
        else:
            content[at:at] = draw(st.binary(max_size=40))
    return bytes(content)


@pytest.fixture(scope="module", autouse=True)
def little_memory():
    """So that what takes far too much of it fails here, and not elsewhere. Windows has no limit."""
    if sys.platform == "win32":
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    most = psutil.Process().memory_info().vms + 8_000_000_000
    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


images = st.one_of(damaged(IMAGES), st.binary(max_size=300))


# ---- images ----


@fuzz(300)
@given(content=images, small=st.booleans())
def test_bytes_are_an_image_or_refused_with_a_reason(content, small):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of odd metadata
        try:
            opened = open_small(content, 32)[0] if small else open_rgb(content)
        except OSError as error:
            reason = error.strerror or str(error)
            assert reason and "\n" not in reason and len(reason) <= 200
        else:
            assert opened.mode == "RGB" and 0 < opened.width * opened.height <= MAX_PIXELS


@fuzz(150)
@given(content=images)
def test_an_upload_is_an_image_or_refused_with_a_reason(content):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "upload.jpg")
        file.write_bytes(content)
        try:
            opened = open_upload(file, file.parent)
        except InputError as error:
            assert str(error) and "\n" not in str(error)
        else:
            assert opened.mode == "RGB" and not opened.info


def zipped(contents: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in contents.items():
            file.writestr(name, content)
    return buffer.getvalue()


ZIPS = [zipped({"a/1.png": IMAGES[1], "b.jpg": IMAGES[0]}), zipped({"../x.png": b"x" * 99})]


@fuzz(150)
@given(content=damaged(ZIPS))
def test_an_uploaded_zip_is_unpacked_below_its_folder_or_refused(content):
    with tempfile.TemporaryDirectory() as folder:
        file, place = Path(folder, "upload.zip"), Path(folder, "place")
        file.write_bytes(content)
        place.mkdir()
        found, refused = list_uploads([Upload("photos.zip", file)], place, file.parent)
        assert found or refused
        assert all(upload.path.resolve().is_relative_to(place) for upload in found if refused)
        outside = {path.name for path in Path(folder).iterdir()}
        assert outside == {"upload.zip", "place"}


# ---- models ----


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_untrained(tmp_path_factory.mktemp("fuzzed") / "model", UNTRAINED_LABELS)


@pytest.fixture(scope="module")
def fruits(model) -> FruitClassifier:
    return FruitClassifier.from_pretrained(model)


@fuzz(60)
@given(content=images)
def test_a_prediction_is_made_or_refused(fruits, content):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            prediction = fruits.predict(content)
        except UnreadableImageError as error:
            assert "\n" not in str(error)
        else:
            assert prediction.label in fruits.labels and 0 <= prediction.score <= 1
            assert math.isclose(sum(score for _, score in prediction.top), 1, rel_tol=1e-3)


FILES = ["config.json", "prototypes.safetensors"]


@fuzz(50)
@given(data=st.data())
def test_a_damaged_model_is_loaded_or_refused(model, data):
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "model")
        shutil.copytree(model, copy)
        file = copy / data.draw(st.sampled_from(FILES))
        file.write_bytes(data.draw(damaged([file.read_bytes()])))
        check_loads(copy)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
KEYS = [
    "id2label", "label_names", "coarse_labels", "temperature", "ood_threshold", "pretrained_cfg",
    "model_args", "architecture", "model_type", "num_classes", "dtype",
]  # fmt: skip


@fuzz(50)
@given(key=st.sampled_from(KEYS), value=values)
def test_a_config_that_says_anything_is_loaded_or_refused(model, key, value):
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "model")
        shutil.copytree(model, copy)
        config = json.loads((copy / "config.json").read_text())
        (copy / "config.json").write_text(json.dumps(config | {key: value}))
        check_loads(copy)


def check_loads(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            prediction = FruitClassifier.from_pretrained(folder).predict(SMALL)
        except InputError as error:
            assert "\n" not in str(error)
        else:
            assert isinstance(prediction.label, str) and isinstance(prediction.known, bool)


# ---- data ----

TABLES = [
    b"file_name,label\n0.png,Apple\n1.png,Kiwi\n2.png,Apple\n3.png,Kiwi\n",
    b'{"file_name": "0.png", "label": "Apple"}\n{"file_name": "1.png", "label": "Kiwi"}\n',
]


@fuzz(40)
@given(content=damaged(TABLES), suffix=st.sampled_from([".csv", ".jsonl"]))
def test_a_table_is_loaded_or_refused(content, suffix):
    with tempfile.TemporaryDirectory() as folder:
        for number in range(8):
            draw_fruit("Kiwi", seed=number, size=32).save(Path(folder, f"{number}.png"))
        Path(folder, f"labels{suffix}").write_bytes(content)
        check_data(Path(folder, f"labels{suffix}"))


def tarred(contents: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


FOLDERS = {
    f"{name}/{number}.png": encoded(draw_fruit(name, seed=number, size=32), "PNG")
    for name in ("Kiwi", "Pear") for number in range(4)
}  # fmt: skip
SHARD = {
    key: content
    for name, png in FOLDERS.items()
    for key, content in [(name.replace("/", "-"), png),
                         (name.replace("/", "-")[:-4] + ".txt", name[:4].encode())]
}  # fmt: skip


@fuzz(40)
@given(
    archive=st.sampled_from([(".zip", zipped(FOLDERS)), (".tar", tarred(FOLDERS)),
                             (".tar", tarred(SHARD))]),
    data=st.data(),
)  # fmt: skip
def test_an_archive_is_loaded_or_refused(archive, data):
    suffix, whole = archive
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f"fruits{suffix}")
        file.write_bytes(data.draw(damaged([whole])))
        check_data(file)


def check_data(source: Path) -> None:
    try:
        datasets = load_fruits(source, num_workers=1, max_unreadable_fraction=0.5)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        names = datasets["train"].features["label"].names
        assert len(names) >= 2 and all(len(rows) for rows in datasets.values())
        assert isinstance(datasets["train"][0]["image"], Image.Image)


# ---- runs ----


@fuzz(150)
@given(sums=st.binary(max_size=200), state=values | st.binary(max_size=50))
def test_any_checkpoint_is_whole_or_has_a_fault(sums, state):
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder, "checkpoint-1")
        checkpoint.mkdir()
        (checkpoint / SUMS).write_bytes(sums)
        content = state if isinstance(state, bytes) else json.dumps(state).encode()
        (checkpoint / "trainer_state.json").write_bytes(content)
        assert find_fault(checkpoint)
        assert newest_whole(Path(folder)) is None
        with pytest.raises(InputError, match="no checkpoint is complete"):
            choose_run_dir(folder, name="x", resume="auto")


@fuzz(100)
@given(text=st.text(max_size=12) | st.from_regex(r"\A[0-9hms. ]{0,8}\Z"))
def test_a_time_is_some_seconds_or_refused(text):
    try:
        assert 0 < parse_duration(text) < math.inf
    except InputError as error:
        assert str(error).startswith("duration=")


words = st.sampled_from(
    ["--weight_decay", "--seed=1", "--freeze", "--bf16", "--config", "0.1", "fruits", "--recipe"]
) | st.text(max_size=6)  # fmt: skip


@fuzz(60)
@given(argv=st.lists(words, max_size=4))
def test_a_command_line_is_parsed_or_exits_with_code_2(argv, capsys):
    try:
        _, _, training = parse_train_arguments(argv)
    except SystemExit as stop:
        asked = any(word.startswith(("-h", "--help")) for word in argv)
        assert stop.code == (0 if asked and stop.code == 0 else 2)
        assert stop.code == 0 or capsys.readouterr().err.count("\n") == 1
    except InputError as error:  # which the command prints
        assert str(error).startswith("data_dir: empty.")
    else:
        assert training.weight_decay >= 0 or "--weight_decay" in argv
