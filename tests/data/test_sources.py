"""Every input format gives the same labelled images; errors are explained in one line."""

import base64
import csv
import io
import json
import logging
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from hashlib import blake2b
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, IterableDataset, Value
from datasets.packaged_modules.parquet.parquet import Parquet
from PIL import Image
from pyarrow import parquet
from support import warm
from support.hub_server import TOKEN, Repo, serve_hub

from hffruits.core.errors import InputError
from hffruits.data.arguments import DataArguments
from hffruits.data.load import load_fruits
from hffruits.data.readers import image_cells, tables
from hffruits.data.readers.image_cells import FileFinder, image_of, is_base64
from hffruits.data.sources import open_source
from hffruits.data.stream_index import index_stream

LABELS = ("Apple", "Açaí")
COUNT = 12


def draw(seed: int, form: str = "JPEG") -> bytes:
    """An image that resembles no other."""
    file = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((32, 24)).save(file, form)
    return file.getvalue()


IMAGES = [draw(seed) for seed in range(COUNT)]
BASE64 = [base64.b64encode(image).decode() for image in IMAGES]
NAMES = [LABELS[number % 2] for number in range(COUNT)]
PATHS = [f"photos/{number}.jpg" for number in range(COUNT)]
IN_CLASSES = [f"{name}/{number}.jpg" for number, name in enumerate(NAMES)]
SPLITS = [("train", "val", "test")[number // 2 % 3] for number in range(COUNT)]


@pytest.fixture(scope="module", autouse=True)
def datasets_cache(tmp_path_factory):
    """What `datasets` keeps, apart from the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        yield


# ---- the forms: each writes below a folder, and gives what the user would name ----


def write_photos(folder: Path, paths: Iterable[str] = PATHS) -> Path:
    for path, image in zip(paths, IMAGES, strict=True):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(image)
    return folder


def write_csv(
    file: Path,
    paths: Iterable[str] = PATHS,
    labels: Iterable[str] = NAMES,
    *,
    header: tuple[str, ...] = ("path", "label"),
    more: Iterable[str] = (),
    sep: str = ",",
    encoding: str = "utf-8",
    end: str = "\n",
) -> Path:
    """A table beside the photos that it names."""
    write_photos(file.parent)
    with file.open("w", newline="", encoding=encoding) as stream:
        writer = csv.writer(stream, delimiter=sep, lineterminator=end)
        columns = [paths, labels, more] if more else [paths, labels]
        writer.writerows([header, *zip(*columns, strict=True)])
    return file


def write_lines(file: Path, rows: Iterable[object]) -> Path:
    write_photos(file.parent)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def write_parquet(file: Path, images: list, labels: list = NAMES) -> Path:
    write_photos(file.parent)
    parquet.write_table(pa.table({"image": images, "label": labels}), file)
    return file


def as_dataset(numbers: Iterable[int] = range(COUNT)) -> Dataset:
    """As on the Hub: typed columns, described by `datasets` in the files' metadata."""
    features = Features({"image": datasets.Image(), "label": ClassLabel(names=list(LABELS))})
    numbers = list(numbers)
    images = [{"bytes": IMAGES[i], "path": f"{i}.jpg"} for i in numbers]
    return Dataset.from_dict({"image": images, "label": [i % 2 for i in numbers]}, features)


def write_clone(folder: Path) -> Path:
    """A Hub dataset as `git clone` or `hf download` leaves it."""
    for file in ("README.md", ".gitattributes", "dataset_infos.json", ".git/index.json"):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text("{}")
    (folder / "assets").mkdir()
    (folder / "assets" / "banner.jpg").write_bytes(draw(99))
    (folder / "data").mkdir()
    for shard in range(2):
        file = folder / "data" / f"train-{shard:05d}-of-00002.parquet"
        as_dataset(range(shard, COUNT, 2)).to_parquet(file)
    return folder


def write_tar(file: Path, members: Iterable[tuple[str, bytes]], mode: str = "w") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, mode) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file


def samples(
    suffix: str,
    label: Callable[[int], str],
    *,
    numbers: Iterable[int] = range(COUNT),
    key: Callable[[int], str] = "{:04d}".format,
) -> Iterable[tuple[str, bytes]]:
    """The members of WebDataset shards."""
    for number in numbers:
        yield f"{key(number)}.jpg", IMAGES[number]
        yield f"{key(number)}.{suffix}", label(number).encode()


def folder_samples(numbers: Iterable[int] = range(COUNT)) -> Iterable[tuple[str, bytes]]:
    return ((IN_CLASSES[number], IMAGES[number]) for number in numbers)


def save(dataset: Dataset | DatasetDict, folder: Path) -> Path:
    dataset.save_to_disk(folder)
    return folder


def write_zip(file: Path, names: Iterable[str]) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for name, image in zip(names, IMAGES, strict=True):
            archive.writestr(name, image)
    return file


def write_metadata(folder: Path) -> Path:
    """As `datasets` has it for images that lie side by side."""
    (folder / "train").mkdir(parents=True)
    for number, image in enumerate(IMAGES):
        (folder / "train" / f"{number}.jpg").write_bytes(image)
    rows = [{"file_name": f"{i}.jpg", "label": name} for i, name in enumerate(NAMES)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "train" / "metadata.jsonl").write_text(lines, encoding="utf-8")
    return folder


def write_two_shards(folder: Path) -> Path:
    """Keys that start again in each shard, as many tools write them."""
    for shard, numbers in enumerate([range(5), range(5, COUNT)]):
        members = samples("cls", NAMES.__getitem__, numbers=numbers)
        first = numbers[0]
        renamed = ((f"{int(n[:4]) - first:04d}{n[4:]}", content) for n, content in members)
        write_tar(folder / f"fruits-{shard:03d}.tar", renamed)
    return folder


def write_mixed(file: Path) -> Path:
    """Images of two formats, so that no member is in all samples."""
    lossless = io.BytesIO()
    Image.open(io.BytesIO(IMAGES[0])).save(lossless, "PNG")
    first = [("0000.png", lossless.getvalue()), ("0000.cls", NAMES[0].encode())]
    return write_tar(file, [*first, *samples("cls", NAMES.__getitem__, numbers=range(1, COUNT))])


TABLES = {
    "csv": lambda at: write_csv(at / "a.csv"),
    "csv, absolute": lambda at: write_csv(at / "a.csv", [str(at / path) for path in PATHS]),
    "tsv": lambda at: write_csv(at / "a.tsv", sep="\t"),
    "csv, semicolons": lambda at: write_csv(at / "a.csv", header=("Image", "Class"), sep=";"),
    "csv of a spreadsheet": lambda at: write_csv(
        at / "a.csv", labels=[f" {name} " for name in NAMES], encoding="utf-8-sig", end="\r\n"
    ),
    "csv of pandas": lambda at: write_csv(
        at / "a.csv", range(COUNT), PATHS, header=("", "path", "label"), more=NAMES
    ),
    "csv, backslashes": lambda at: write_csv(
        at / "a.csv", [path.replace("/", "\\") for path in PATHS]
    ),
    "csv, other case and folders": lambda at: write_csv(
        at / "a.csv", [path.upper().replace("PHOTOS/", "./") for path in PATHS]
    ),
    "csv, ids": lambda at: write_csv(at / "a.csv", range(COUNT), header=("Image ID", "label")),
    "csv, one-hot": lambda at: write_csv(
        at / "_classes.csv",
        labels=[f" {name == LABELS[0]:d}" for name in NAMES],
        more=[f" {name == LABELS[1]:d}" for name in NAMES],
        header=("filename", *LABELS),
    ),
    "csv, pipes": lambda at: write_csv(at / "a.csv", sep="|"),
    "csv, UTF-16": lambda at: write_csv(at / "a.csv", encoding="utf-16"),
    "csv, UTF-32": lambda at: write_csv(at / "a.csv", encoding="utf-32"),
    "csv in a folder of patterns": lambda at: write_csv(at / "a [b]*?" / "a.csv"),
    "csv beside photos": lambda at: write_csv(at / "a.csv").parent,
    "jsonl": lambda at: write_lines(
        at / "a.jsonl",
        [{"file_name": p, "fruit": n, "x": 1} for p, n in zip(PATHS, NAMES, strict=True)],
    ),
    "json": lambda at: write_lines(
        at / "a.json", [[{"image": p, "label": n} for p, n in zip(PATHS, NAMES, strict=True)]]
    ),
    "jsonl, numbers": lambda at: write_lines(
        at / "a.jsonl", [{"image_id": i, "label": name} for i, name in enumerate(NAMES)]
    ),
    "jsonl, base64": lambda at: write_lines(
        at / "a.jsonl", [{"image": b64, "label": n} for b64, n in zip(BASE64, NAMES, strict=True)]
    ),
    "jsonl, data URLs": lambda at: write_lines(
        at / "a.jsonl",
        [
            {"image": f"data:image/jpeg;base64,{b64}", "label": n}
            for b64, n in zip(BASE64, NAMES, strict=True)
        ],
    ),
    "jsonl, dicts": lambda at: write_lines(
        at / "a.jsonl",
        [
            {"image": {"bytes": b64, "path": "0.jpg"}, "label": n}
            for b64, n in zip(BASE64, NAMES, strict=True)
        ],
    ),
    "parquet, base64": lambda at: write_parquet(at / "a.parquet", [b64.encode() for b64 in BASE64]),
    "parquet, structs": lambda at: write_parquet(
        at / "a.parquet", [{"bytes": image, "path": "0.jpg"} for image in IMAGES]
    ),
    "parquet, binary": lambda at: write_parquet(at / "a.parquet", IMAGES),
    "parquet, paths": lambda at: write_parquet(at / "a.parquet", PATHS),
    "parquet, structs of paths": lambda at: write_parquet(
        at / "a.parquet", [{"bytes": None, "path": path} for path in PATHS]
    ),
    "parquet with classes": lambda at: (as_dataset().to_parquet(at / "a.parquet"), at)[1],
    "clone of a Hub dataset": write_clone,
    "metadata beside photos": write_metadata,
}
SHARDS = {
    "cls": lambda at: write_tar(at / "a.tar", samples("cls", NAMES.__getitem__)),
    "txt": lambda at: write_tar(at / "a.tar", samples("txt", lambda i: f"{NAMES[i]}\n")),
    "json": lambda at: write_tar(
        at / "a.tar", samples("json", lambda i: json.dumps({"label": NAMES[i], "w": 16}))
    ),
    "tar.gz": lambda at: write_tar(at / "a.tar.gz", samples("cls", NAMES.__getitem__), "w:gz"),
    "keys in folders": lambda at: write_tar(
        at / "a.tar", samples("cls", NAMES.__getitem__, key="./some/{}".format)
    ),
    "two formats": lambda at: write_mixed(at / "a.tar"),
    "two shards": write_two_shards,
    "two shards, class folders": lambda at: (
        write_tar(at / "0.tar", folder_samples(range(5))),
        write_tar(at / "1.tar", folder_samples(range(5, COUNT))).parent,
    )[1],
}
ARCHIVES = {
    "folder": lambda at: write_photos(at / "fruits", IN_CLASSES),
    "saved dataset": lambda at: save(as_dataset().with_format("numpy"), at / "saved"),
    "saved paths": lambda at: save(
        Dataset.from_dict({"file_name": PATHS, "label": NAMES}), write_photos(at)
    ),
    "zip, one top folder": lambda at: write_zip(at / "a.zip", [f"fruits/{p}" for p in IN_CLASSES]),
    "folder with a zip": lambda at: write_zip(at / "a.zip", IN_CLASSES).parent,
    "tar": lambda at: write_tar(at / "a.tar", folder_samples()),
    "tar.gz": lambda at: write_tar(at / "a.tar.gz", folder_samples(), "w:gz"),
}


def test_the_drawn_images_differ():
    assert len(set(map(digest, IMAGES))) == COUNT


def digest(source: bytes | Image.Image) -> str:
    image = source if isinstance(source, Image.Image) else Image.open(io.BytesIO(source))
    return blake2b(image.convert("RGB").tobytes(), digest_size=8).hexdigest()


def pairs(numbers: Iterable[int] = range(COUNT)) -> set[tuple[str, str]]:
    """Image and label, as they should come out."""
    return {(digest(IMAGES[number]), NAMES[number]) for number in numbers}


def pairs_of(rows: Dataset) -> set[tuple[str, str]]:
    names = rows.features["label"].names
    return {(digest(row["image"]), names[row["label"]]) for row in rows}


def pairs_of_stream(rows: IterableDataset) -> set[tuple[str, str]]:
    found = set()
    for row in rows:
        image = row["image"]
        assert bool(image["bytes"]) != bool(image["path"])
        content = image["bytes"] or Path(image["path"]).read_bytes()
        found.add((digest(content), row["label"]))
    return found


# ---- every form ----


@pytest.mark.parametrize("form", [*TABLES, *SHARDS, *ARCHIVES])
def test_a_form_gives_the_labelled_images(form, tmp_path, caplog):
    where = (TABLES | SHARDS | ARCHIVES)[form](tmp_path)
    data = load_fruits(where)
    assert set().union(*map(pairs_of, data.values())) == pairs()
    assert set(data) == {"train", "validation", "test"}
    paths = [path for rows in data.values() for path in rows["path"]]
    assert len(set(paths)) == COUNT
    warned = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert not warned or "tar" in form


@pytest.mark.parametrize("form", [*TABLES, *SHARDS])
def test_a_stream_without_images_has_the_same_texts(form, tmp_path, monkeypatch):
    source = DataArguments((TABLES | SHARDS)[form](tmp_path), streaming=True)
    full = list(open_source(source).splits["train"])
    read = []
    of_file = Parquet._generate_tables

    def spy(builder, *args, **kwargs):
        for key, table in of_file(builder, *args, **kwargs):
            read.append(set(table.column_names))
            yield key, table

    monkeypatch.setattr(Parquet, "_generate_tables", spy)
    texts = open_source(source, with_images=False).splits["train"]
    read.clear()  # to find the columns, the first row is read whole
    rows = list(texts)
    assert [(r["label"], r["path"]) for r in rows] == [(r["label"], r["path"]) for r in full]
    if form.startswith("parquet") and form != "parquet, paths":
        assert read and not any("image" in columns for columns in read)
        assert {row["image"]["bytes"] for row in rows} == {b""}


@pytest.mark.parametrize("form", [*TABLES, *SHARDS])
def test_a_form_streams_the_labelled_images(form, tmp_path):
    splits = open_source(DataArguments((TABLES | SHARDS)[form](tmp_path), streaming=True)).splits
    assert list(splits) == ["train"]
    stream = splits["train"]
    assert isinstance(stream, IterableDataset)
    assert stream.features == Features(
        {
            "image": datasets.Image(decode=False),
            "label": Value("string"),
            "path": Value("string"),
        }
    )
    assert pairs_of_stream(stream) == pairs()
    assert pairs_of_stream(pickle.loads(pickle.dumps(stream))) == pairs()
    index = index_stream(stream, holdout={}, seed=1)  # which refuses names that come twice
    assert sum(index.shards["train"]) == COUNT
    two = form in ("two shards", "two shards, class folders", "clone of a Hub dataset")
    assert stream.num_shards == len(index.shards["train"]) == 1 + two


def test_tables_beside_class_folders_are_ignored_with_a_warning(tmp_path, caplog):
    write_photos(tmp_path, IN_CLASSES)
    (tmp_path / "prices.csv").write_text("label,price\nApple,2\n")
    data = load_fruits(tmp_path)
    assert set().union(*map(pairs_of, data.values())) == pairs()
    assert "prices.csv: ignored next to class folders" in caplog.text


def of_split(split: str) -> list[int]:
    return [number for number in range(COUNT) if SPLITS[number] == split]


def write_split_tables(folder: Path, suffix: str) -> Path:
    """`train/metadata.csv` and so on, each beside the photos that it names."""
    for split in set(SPLITS):
        numbers = of_split(split)
        paths, names = [PATHS[i] for i in numbers], [NAMES[i] for i in numbers]
        write_csv(folder / suffix.format(split), paths, names)
    return folder


def write_split_shards(folder: Path) -> Path:
    for split in set(SPLITS):
        members = samples("cls", NAMES.__getitem__, numbers=of_split(split))
        write_tar(folder / f"fruits-{split}-000.tar", members)
    return folder


SPLIT = {
    "zip": lambda at: write_zip(
        at / "a.zip", [f"top/{s}/{p}" for s, p in zip(SPLITS, IN_CLASSES, strict=True)]
    ),
    "saved splits": lambda at: save(
        DatasetDict({split: as_dataset(of_split(split)) for split in set(SPLITS)}), at / "saved"
    ),
    "saved column": lambda at: save(as_dataset().add_column("split", SPLITS), at / "saved"),
    "csv column": lambda at: write_csv(
        at / "a.csv", header=("path", "label", "split"), more=[s.upper() for s in SPLITS]
    ),
    "csv files": lambda at: write_split_tables(at, "{}.csv"),
    "csv files in folders": lambda at: write_split_tables(at, "{}/labels.csv"),
    "pattern of csv files": lambda at: write_split_tables(at, "{}/a.csv") / "*" / "a.csv",
    "shards": write_split_shards,
    "pattern of shards": lambda at: write_split_shards(at) / "fruits-*.tar",
}


@pytest.mark.parametrize("form", SPLIT)
def test_the_splits_of_a_form_are_kept(form, tmp_path):
    data = load_fruits(SPLIT[form](tmp_path))
    for split, theirs in {"train": "train", "validation": "val", "test": "test"}.items():
        assert pairs_of(data[split]) == pairs(of_split(theirs))


@pytest.mark.parametrize("streaming", [False, True])
def test_a_range_in_the_name_of_shards_means_each_of_them(tmp_path, streaming):
    for number in range(3):
        own = range(number, COUNT, 3)
        write_tar(tmp_path / f"f-{number:03}.tar", samples("cls", NAMES.__getitem__, numbers=own))

    def read(last: str):
        data = DataArguments(str(tmp_path / f"f-{{000..{last}}}.tar"), streaming=streaming)
        return list(open_source(data).splits["train"])

    assert len(read("001")) == len(range(0, COUNT, 3)) + len(range(1, COUNT, 3))
    with pytest.raises(InputError, match=r"f-003\.tar: no table or archive fits this pattern"):
        read("003")


@pytest.mark.parametrize("form", ["csv files in folders", "shards"])
def test_the_splits_of_a_stream_are_kept(form, tmp_path):
    splits = open_source(DataArguments(SPLIT[form](tmp_path), streaming=True)).splits
    for split, theirs in {"train": "train", "validation": "val", "test": "test"}.items():
        assert pairs_of_stream(splits[split]) == pairs(of_split(theirs))


def test_tables_of_one_split_in_two_folders_each_name_their_own_photos(tmp_path):
    for number, folder in enumerate(("one", "two")):
        (tmp_path / folder / "img").mkdir(parents=True)
        for i in range(6):
            (tmp_path / folder / "img" / f"{i}.jpg").write_bytes(IMAGES[6 * number + i])
        lines = "".join(f"img/{i}.jpg,{NAMES[i]}\n" for i in range(6))
        (tmp_path / folder / "a.csv").write_text(f"file,label\n{lines}", encoding="utf-8")
    where = tmp_path / "*" / "a.csv"
    data = load_fruits(where)
    assert set().union(*map(pairs_of, data.values())) == pairs()
    paths = {path for rows in data.values() for path in rows["path"]}
    assert paths == {f"{folder}/img/{i}.jpg" for folder in ("one", "two") for i in range(6)}
    stream = open_source(DataArguments(where, streaming=True)).splits["train"]
    assert {row["path"] for row in stream} == paths
    assert pairs_of_stream(stream) == pairs() and stream.num_shards == 2


def test_shards_of_one_name_in_two_folders_give_their_rows_own_names(tmp_path):
    for split, numbers in {"train": range(8), "val": range(8, COUNT)}.items():
        members = samples("cls", NAMES.__getitem__, numbers=numbers, key=lambda i: f"{i % 8}")
        write_tar(tmp_path / split / "000.tar", members)
    splits = open_source(DataArguments(tmp_path)).splits
    assert splits["train"]["path"][:2] == ["train/000/0", "train/000/1"]
    assert splits["validation"]["path"][:2] == ["val/000/0", "val/000/1"]


def test_shards_are_read_from_urls(tmp_path):
    write_two_shards(tmp_path)
    files = {file.name: file.read_bytes() for file in tmp_path.glob("*.tar")}
    with serve_hub({("dataset", "user/shards"): Repo(files)}) as hub:
        url = f"{hub.url}/datasets/user/shards/resolve/main/fruits-{{000..001}}.tar"
        assert set().union(*map(pairs_of, load_fruits(url).values())) == pairs()
        stream = open_source(DataArguments(url, streaming=True)).splits["train"]
        assert pairs_of_stream(stream) == pairs() and stream.num_shards == 2
        with pytest.raises(InputError, match=r"fruits-002\.tar: can't be read"):
            load_fruits(url.replace("001", "002"))


# ---- labels, names, columns ----


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["007", "1"], ["007", "1"]),  # no numbers
        (["NA", "None"], ["NA", "None"]),  # no empty fields
        ([" Red Apple ", "Apfel, rot"], ["Apfel, rot", "Red Apple"]),
    ],
)
def test_labels_in_a_csv_are_the_text_that_is_there(tmp_path, given, names):
    file = write_csv(tmp_path / "a.csv", labels=[given[i % 2] for i in range(COUNT)])
    assert load_fruits(file)["train"].features["label"].names == names


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([0, 1, None], ["0", "1"]),
        ([0.0, 1.0, float("nan")], ["0", "1"]),  # of pandas
        (["a", "b", "  "], ["a", "b"]),
    ],
)
def test_rows_without_a_label_are_left_out_with_a_warning(tmp_path, labels, names):
    chosen = [labels[i % 2] for i in range(COUNT - 1)] + [labels[2]]
    data = load_fruits(
        write_parquet(tmp_path / "a.parquet", PATHS, chosen), max_unreadable_fraction=0.1
    )
    assert data["train"].features["label"].names == names
    assert [(str(bad.path), bad.reason) for bad in data.skipped] == [(PATHS[-1], "no label")]


def test_a_hidden_class_is_no_label(tmp_path):
    rows = as_dataset()
    table = rows.data.table.set_column(1, "label", pa.array([-1, *rows["label"][1:]]))
    parquet.write_table(
        table.replace_schema_metadata(rows.data.schema.metadata), tmp_path / "a.parquet"
    )
    data = load_fruits(tmp_path / "a.parquet", max_unreadable_fraction=0.1)
    assert [bad.reason for bad in data.skipped] == ["no label"]


def test_files_that_a_table_names_in_vain_are_listed_with_the_reason(tmp_path):
    paths = ["gone.jpg", "../../etc/passwd", *PATHS[2:]]
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text("root:x:0:0")
    file = write_csv(tmp_path / "a" / "b" / "a.csv", paths)
    data = load_fruits(file, max_unreadable_fraction=0.2)
    assert {str(bad.path): bad.reason for bad in data.skipped} == {
        "gone.jpg": "No such file or directory",
        "../../etc/passwd": "not an image, or an unknown format",
    }


def test_rows_without_an_image_are_listed(tmp_path):
    for images in ([None, *IMAGES[1:]], [None, *[{"bytes": b} for b in IMAGES[1:]]]):
        file = write_parquet(tmp_path / "a.parquet", images)
        data = load_fruits(file, max_unreadable_fraction=0.1)
        assert [bad.reason for bad in data.skipped] == ["empty file (0 bytes)"]
        rows = list(open_source(DataArguments(file, streaming=True)).splits["train"])
        assert rows[0]["image"] == {"bytes": b"", "path": None}


def test_rows_of_the_same_name_get_their_own(tmp_path):
    paths = [path.replace(PATHS[2], PATHS[0]) for path in PATHS]
    data = load_fruits(write_csv(tmp_path / "a.csv", paths))
    found = [path for rows in data.values() for path in rows["path"]]
    assert sorted(path for path in found if path.startswith(PATHS[0])) == [
        PATHS[0],
        f"{PATHS[0]}#2",
    ]


def test_columns_and_members_can_be_named(tmp_path):
    table = write_csv(
        tmp_path / "a.csv",
        header=("path", "sort", "tree"),
        more=[str(i // 4) for i in range(COUNT)],
    )
    named = {"label_column_name": "sort", "group_by": "tree"}
    source = DataArguments(table, image_column_name="path", **named)
    rows = open_source(source).splits["train"]
    assert rows["group"][:] == [str(i // 4) for i in range(COUNT)]
    assert rows["label"][:] == NAMES
    members = samples("json", lambda i: json.dumps({"sort": NAMES[i], "tree": i // 4}))
    masks = [(f"{i:04d}.mask.png", draw(50)) for i in range(COUNT)]
    shard = write_tar(tmp_path / "a.tar", sorted([*members, *masks]))
    with pytest.raises(InputError, match=r"0000 has the images jpg, mask.png\. Name the one"):
        open_source(DataArguments(shard, label_column_name="sort"))
    source = DataArguments(shard, image_column_name="jpg", **named)
    for streaming in (False, True):
        shown = DataArguments(**vars(source) | {"streaming": streaming})
        rows = list(open_source(shown).splits["train"])
        assert [row["group"] for row in rows] == [str(i // 4) for i in range(COUNT)]
        assert [row["label"] for row in rows] == NAMES


@pytest.mark.parametrize("encoding", ["cp1252", "iso8859-15", "utf-16-be"])
def test_a_table_is_read_in_the_encoding_that_is_named(tmp_path, encoding):
    write = [write_csv(tmp_path / "a.csv", encoding=encoding)]
    if encoding != "utf-16-be":
        rows = [{"image": p, "label": n} for p, n in zip(PATHS, NAMES, strict=True)]
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write.append(write_bytes(tmp_path / "b.jsonl", lines.encode(encoding)))
    for file in write:
        data = load_fruits(file, table_encoding=encoding)
        assert set().union(*map(pairs_of, data.values())) == pairs()


def test_utf_8_that_is_read_as_something_else_is_warned_of(tmp_path, caplog):
    rows = open_source(DataArguments(TABLES["csv"](tmp_path), table_encoding="cp1252")).splits
    assert set(rows["train"]["label"]) == {"Apple", "AÃ§aÃ"}
    assert "a.csv: is UTF-8, but read as cp1252 as asked. Check its labels" in caplog.text
    caplog.clear()
    open_source(DataArguments(tmp_path / "a.csv", table_encoding="UTF8"))
    assert not caplog.text


def test_tables_of_one_kind_in_two_encodings_are_refused(tmp_path):
    write_csv(tmp_path / "a.csv")
    write_csv(tmp_path / "b.csv", encoding="utf-16")
    with pytest.raises(InputError, match=r"a\.csv is utf-8 and .*b\.csv utf-16\. Save both as"):
        load_fruits(tmp_path)


def test_one_hot_rows_of_no_class_or_two_are_left_out_and_counted(tmp_path, caplog):
    apple, acai = ([f"{name == label:d}" for name in NAMES] for label in LABELS)
    apple[1], acai[3] = "1", "0"
    file = write_csv(tmp_path / "a.csv", labels=apple, more=acai, header=("path", *LABELS))
    data = load_fruits(file, max_unreadable_fraction=0.2)
    assert {str(bad.path): bad.reason for bad in data.skipped} == {
        PATHS[1]: "no label", PATHS[3]: "no label",
    }  # fmt: skip
    assert "1 row has several and 1 none (row 2: Apple, Açaí), and are left out" in caplog.text


def write_bits(file: Path, more: dict[str, list], *, split: bool = False) -> Path:
    """A column for each class, and others."""
    own = {label: [int(name == label) for name in NAMES] for label in LABELS}
    columns = {"path": PATHS, **own, **more} | ({"split": SPLITS} if split else {})
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return write_lines(file, rows)


def test_flags_of_0_and_1_beside_another_column_are_no_classes(tmp_path):
    kinds = [f"kind {number % 3}" for number in range(COUNT)]
    with pytest.raises(
        InputError,
        match=r"Apple, Açaí hold 0 and 1, .* but kind beside them don't. Name the column",
    ):
        load_fruits(write_bits(tmp_path / "a.jsonl", {"kind": kinds}))
    named = DataArguments(tmp_path / "a.jsonl", label_column_name="kind")
    assert open_source(named).splits["train"]["label"][:] == kinds


def test_ids_splits_and_numbers_of_rows_stand_beside_columns_for_classes(tmp_path, caplog):
    ids = [str(number) for number in range(COUNT)]
    file = write_bits(tmp_path / "a.jsonl", {"Unnamed: 0": ids, "image id": ids}, split=True)
    with caplog.at_level(logging.INFO):
        data = load_fruits(file)
    assert pairs_of(data["train"]) == pairs(of_split("train"))
    assert "a column of 0 and 1 for each class: Apple, Açaí" in caplog.text


def test_a_flag_among_the_columns_for_classes_is_named(tmp_path, caplog):
    blurry = [1, 1, 1] + [0] * 9
    load_fruits(write_bits(tmp_path / "a.jsonl", {"blurry": blurry}), max_unreadable_fraction=0.3)
    assert "All that have several have blurry: if that is no class, remove its" in caplog.text


@pytest.mark.parametrize("text", ["/workspace/project/fruits/photos/everything/1.jpg",
                                  "/work/shared/grocery/store/produce/all/photos/1"])  # fmt: skip
def test_a_long_path_is_not_taken_for_base64(text):
    assert not is_base64(text)
    assert image_of({"path": None, "bytes": text.encode()})["bytes"] == text.encode()


@pytest.mark.parametrize("first", ["text", "path"])
def test_base64_and_paths_may_share_a_column(tmp_path, first, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = [
        b64 if (i % 2 == 0) == (first == "text") else PATHS[i] for i, b64 in enumerate(BASE64)
    ]
    rows = [{"image": image, "label": name} for image, name in zip(images, NAMES, strict=True)]
    file = write_lines(tmp_path / "below" / "a.jsonl", rows)
    for streaming in (False, True):
        rows = open_source(DataArguments(file, streaming=streaming)).splits["train"]
        assert pairs_of_stream(rows) == pairs()
        assert not any(row["path"] in BASE64 for row in rows)


@pytest.mark.parametrize("form", ["paths", "structs"])
def test_a_missing_photo_is_not_replaced_by_one_that_lies_elsewhere(tmp_path, form, caplog):
    numbers = [str(number) for number in range(COUNT)]
    images = numbers if form == "paths" else [{"bytes": None, "path": path} for path in numbers]
    file = write_parquet(tmp_path / "a.parquet", images)
    (tmp_path / "photos" / "9.jpg").unlink()
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "9.png").write_bytes(draw(50, "PNG"))
    data = load_fruits(file, image_column_name="image", max_unreadable_fraction=0.1)
    assert [bad.reason for bad in data.skipped] == ["No such file or directory"]
    assert "1 photo (such as 9) missing, and masks/9.png is not taken for them" in caplog.text


def test_photos_of_a_table_may_lie_in_several_folders(tmp_path, caplog):
    write_photos(tmp_path, [f"part_{number % 2}/{number}.jpg" for number in range(COUNT)])
    file = tmp_path / "a.csv"
    rows = "".join(f"{number},{name}\n" for number, name in enumerate(NAMES))
    file.write_text(f"image_id,label\n{rows}", encoding="utf-8")
    with caplog.at_level(logging.INFO):
        assert pairs_of_stream(open_source(DataArguments(file)).splits["train"]) == pairs()
    for number in range(2):
        assert (
            f"6 photos found by the end of their paths in {tmp_path}/part_{number}" in caplog.text
        )


def test_a_path_is_found_by_all_of_its_folders(tmp_path):
    write_photos(tmp_path, [f"x/{'ab'[i % 2]}/c/{i // 2}.jpg" for i in range(COUNT)])
    finder = FileFinder(tmp_path, "a.csv")
    assert finder.find("A/c/1.JPG") == str(tmp_path / "x/a/c/1.jpg")
    assert finder.find("b\\C\\1") == str(tmp_path / "x/b/c/1.jpg")
    with pytest.raises(InputError, match=r"c/1.jpg may be any of x/a/c/1.jpg, x/b/c/1.jpg"):
        finder.find("c/1.jpg")


def test_a_photo_that_lies_deep_is_found_without_comparing_it_with_all_of_its_name(
    tmp_path, monkeypatch
):
    names = [f"{number}/image.jpg" for number in range(COUNT)]
    finder = FileFinder(write_photos(tmp_path, [f"x/{name}" for name in names]), "a.csv")
    finder.find(names[0])
    folded = []
    monkeypatch.setattr(image_cells, "file_key", lambda name: folded.append(name) or name)
    for name in names:
        finder.find(name)
    assert len(folded) == 2 * COUNT


def test_rows_of_the_hub_reach_no_file_of_this_computer(tmp_path, monkeypatch):
    write_photos(tmp_path)
    images = [{"bytes": None, "path": str(tmp_path / path)} for path in PATHS]
    features = Features({"image": datasets.Image(decode=False), "label": Value("string")})
    found = {"train": Dataset.from_dict({"image": images, "label": NAMES}, features)}
    monkeypatch.setattr(tables, "_load_hub", lambda *_, **__: found)
    with pytest.raises(InputError, match=r"0.jpg: a file of this computer, which rows of the Hub"):
        open_source(DataArguments(dataset_name="user/x"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)  # where it is downloaded
    rows = open_source(DataArguments(dataset_name="user/x")).splits["train"]
    assert pairs_of_stream(rows) == pairs()


def test_one_file_under_two_labels_through_a_link_is_refused(tmp_path):
    file = write_csv(tmp_path / "a.csv", ["photos/link.jpg", *PATHS[1:]])
    (tmp_path / "photos/link.jpg").unlink(missing_ok=True)
    (tmp_path / "photos/link.jpg").symlink_to(tmp_path / PATHS[-1])
    with pytest.raises(InputError, match=r"1 file with more than one label \(photos/"):
        load_fruits(file)


def test_one_file_under_two_spellings_and_labels_is_refused(tmp_path):
    file = write_csv(tmp_path / "a.csv", [PATHS[0], f"./photos/../{PATHS[0]}", *PATHS[2:]])
    with pytest.raises(InputError, match=r"1 file with more than one label \(photos/0.jpg as"):
        load_fruits(file)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_a_wide_encoding_without_a_mark_is_advised(encoding, tmp_path):
    file = write_csv(tmp_path / "a.csv", encoding=encoding)
    with pytest.raises(InputError, match=f"with {encoding}, a line of it is 'path,label'"):
        open_source(DataArguments(str(file)))
    assert open_source(DataArguments(str(file), table_encoding=encoding)).splits["train"]


@pytest.mark.parametrize("form", ["folder", "parquet, binary", "cls", "saved dataset"])
def test_an_encoding_for_what_is_no_text_is_refused(form, tmp_path):
    where = (TABLES | SHARDS | ARCHIVES)[form](tmp_path)
    with pytest.raises(
        InputError, match=r"table_encoding: is for CSV and JSON, and .* Leave it out"
    ):
        open_source(DataArguments(where, table_encoding="cp1252"))


def test_the_encoding_of_a_long_line_is_found_in_its_start(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_CHECKED", 9)  # in the middle of a letter
    line = "12345678é".encode() + b"\xe9" * 9  # whose rest is not looked at
    assert tables._encoding_of(write_bytes(tmp_path / "a", line), None) == "utf-8"
    (tmp_path / "a").write_bytes(b"A\xe7a\n" * 9)
    with pytest.raises(InputError, match="not UTF-8"):
        tables._encoding_of(tmp_path / "a", None)


def test_where_most_files_are_missing_the_cause_is_said_once(tmp_path, caplog):
    paths = [*PATHS[:3], *[f"gone/{i}.jpeg" for i in range(9)]]
    with pytest.raises(
        InputError, match=r"9 of 12 images can't be read, .*\(No such file"
    ) as error:
        load_fruits(write_csv(tmp_path / "a.csv", paths))
    assert "Check the paths and the folder that they start from" in str(error.value)
    (cause,) = (text for text in caplog.messages if "are missing" in text)
    assert "a.csv: 9 of 12 files that the column path names are missing" in cause


def test_a_stream_whose_files_are_all_missing_is_refused_before_it_is_counted(tmp_path):
    file = write_csv(tmp_path / "a.csv", [f"gone/{path}" for path in PATHS])
    with pytest.raises(InputError, match="the first 12 files that the column path names are"):
        open_source(DataArguments(file, streaming=True))


def test_a_file_that_a_table_names_twice_is_warned_of(tmp_path, caplog):
    load_fruits(write_csv(tmp_path / "a.csv", [*PATHS[:2], *PATHS[:2], *PATHS[4:]]))
    assert "2 rows name a file again, with the same label (such as photos/0.jpg)" in caplog.text


def test_two_columns_of_one_name_are_refused(tmp_path):
    file = write_csv(tmp_path / "a.csv", header=("path", "label", "label"), more=NAMES)
    with pytest.raises(InputError, match="label heads two columns"):
        load_fruits(file)


def test_nothing_is_written_beside_a_saved_dataset(tmp_path):
    folder = ARCHIVES["saved dataset"](tmp_path)
    before = sorted(folder.iterdir())
    found = load_fruits(DataArguments(str(folder), test_fraction=0.2))
    assert sorted(found) == ["test", "train", "validation"]
    for rows in found.values():  # each photo has its own label and path
        for row in rows:
            assert row["path"] and row["image"].mode == "RGB"
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("text", ["{}", "[]", '{"_data_files": []}'])
def test_a_damaged_saved_dataset_is_one_line(tmp_path, text):
    folder = ARCHIVES["saved dataset"](tmp_path)
    (folder / "state.json").write_text(text)
    with pytest.raises(InputError, match=r"can't be read as a dataset .*Fix or replace it"):
        load_fruits(DataArguments(str(folder)))


def test_a_saved_dataset_is_not_streamed(tmp_path):
    with pytest.raises(InputError, match="Leave it out: photos in folders and saved datasets"):
        open_source(DataArguments(ARCHIVES["saved dataset"](tmp_path), streaming=True))


# ---- caches, logs, files of other names ----


def test_a_file_that_is_changed_is_read_again(tmp_path):
    for write in (TABLES["csv"], SHARDS["cls"]):
        file = write(tmp_path)
        load_fruits(file)
        before = file.stat().st_mtime_ns
        content = file.read_bytes().replace(LABELS[0].encode(), b"Peach")
        file.write_bytes(content)
        os.utime(file, ns=(before + 10**9, before + 10**9))
        assert load_fruits(file)["train"].features["label"].names == [LABELS[1], "Peach"]


def test_images_are_not_exchanged_for_files_of_their_name_here(tmp_path, monkeypatch):
    as_dataset().to_parquet(tmp_path / "a.parquet")
    monkeypatch.chdir(tmp_path)
    for number in range(COUNT):  # as the key, and as the path in the Parquet file
        for name in (f"{number:04d}.jpg", f"{number}.jpg"):
            Path(name).write_bytes(draw(70))
    for file in (tmp_path / "a.parquet", SHARDS["cls"](tmp_path)):
        for streaming in (False, True):
            rows = open_source(DataArguments(file, streaming=streaming)).splits["train"]
            assert [row["image"]["bytes"] for row in rows] == IMAGES


def test_images_in_a_table_stay_in_the_file_of_datasets(tmp_path):
    rows = open_source(DataArguments(TABLES["parquet with classes"](tmp_path))).splits["train"]
    assert len(rows.cache_files) == 1
    assert len(pickle.dumps(rows)) < len(b"".join(IMAGES))


def test_datasets_is_quiet_and_then_as_before(tmp_path, capfd):
    datasets.utils.logging.set_verbosity_info()
    try:
        load_fruits(TABLES["csv"](tmp_path))
        bad = tmp_path / "bad.parquet"
        bad.write_bytes(b"PAR1" + b"x" * 100)
        with pytest.raises(InputError):
            load_fruits(bad)
        assert datasets.utils.logging.get_verbosity() == logging.INFO
    finally:
        datasets.utils.logging.set_verbosity_warning()
    assert datasets.utils.is_progress_bar_enabled()
    shown = capfd.readouterr().err
    assert "Generating" not in shown and "Failed to read" not in shown


# ---- what can't be used ----


def cut(file: Path, size: int) -> Path:
    file.write_bytes(file.read_bytes()[:size])
    return file


def spoil(file: Path) -> Path:
    """Another header than that of the third member: a reader that shrugs would stop there."""
    content = bytearray(file.read_bytes())
    place = content.index(b"0001.jpg")
    content[place : place + 400] = b"\xff" * 400
    file.write_bytes(content)
    return file


def write_bytes(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file


UNUSABLE = {
    "no column": (
        TABLES["csv"], {"label_column_name": "sort"}, "no column 'sort'. Name one of path, l",
    ),
    "no image column": (
        TABLES["csv"], {"image_column_name": "x"}, "image_column_name: no column 'x'",
    ),
    "no label column": (
        lambda at: write_csv(at / "a.csv", header=("path", "x")), {},
        "label_column_name: unclear which column it is. Name one of path, x.",
    ),
    "labels for images": (
        lambda at: write_parquet(at / "a.parquet", PATHS, [1] * COUNT),
        {"image_column_name": "label", "label_column_name": "image"},
        "label: neither images nor paths",
    ),
    "many labels a row": (
        lambda at: write_parquet(at / "a.parquet", PATHS, [[name] for name in NAMES]), {},
        "label: lists. Name a column with one class a row",
    ),
    "unknown split": (
        lambda at: write_csv(at / "a.csv", header=("path", "label", "split"), more=["x"] * COUNT),
        {}, "split 'x' in row 1. Use train, validation and test.",
    ),
    "no train": (
        lambda at: write_csv(at / "a.csv", header=("path", "label", "split"), more=["val"] * COUNT),
        {}, "its split column has no train",
    ),
    "no train file": (
        lambda at: (write_csv(at / "val.csv"), write_csv(at / "test.csv"), at)[2], {},
        "has test, validation files, but none to train on",
    ),
    "empty": (lambda at: write_bytes(at / "a.csv", b""), {}, "no rows"),
    "empty json": (lambda at: write_bytes(at / "a.jsonl", b""), {}, "no rows"),
    "header": (lambda at: write_bytes(at / "a.csv", b"path,label\n"), {}, "no rows"),
    "empty parquet": (
        lambda at: write_parquet(at / "a.parquet", *[pa.array([], pa.string())] * 2), {}, "no rows",
    ),
    "damaged parquet": (
        lambda at: cut(TABLES["parquet, binary"](at), 3000), {}, "Parquet magic bytes not found",
    ),
    "damaged json": (lambda at: write_bytes(at / "a.json", b'[{"a": '), {}, "can't be read as a"),
    "latin-1": (
        lambda at: write_csv(at / "a.csv", encoding="latin-1"), {},
        "not UTF-8. .*table_encoding: with cp1252, a line of it is 'photos/1.jpg,Açaí'",
    ),
    "utf-16 without a mark": (
        lambda at: write_csv(at / "a.csv", encoding="utf-16-le"), {},
        "with utf-16-le, a line of it is 'path,label",
    ),
    "utf-16 json": (
        lambda at: write_bytes(at / "a.jsonl", '{"image": "a"}\n'.encode("utf-16")), {},
        "UTF-16, which JSON is not read in. Save it as UTF-8",
    ),
    "no encoding": (TABLES["csv"], {"table_encoding": "base64"}, "table_encoding=base64: unknown"),
    "other encoding": (
        TABLES["csv"], {"table_encoding": "ascii"}, "not text in ascii. Save it as UTF-8, or name",
    ),
    "windows paths": (
        lambda at: write_csv(at / "a.csv", [rf"C:\photos\{i}.jpg" for i in range(COUNT)]), {},
        r"all 12 files that the column path names are missing \(such as C:\\photos\\0.jpg\): "
        "absolute paths of a Windows computer. Write paths from the table's folder on.$",
    ),
    "absolute paths": (
        lambda at: write_csv(at / "a.csv", [f"/nowhere/{path}" for path in PATHS]), {},
        "absolute paths, of another computer maybe",
    ),
    "paths of an url": (
        lambda at: write_csv(at / "a.csv", [f"https://x.org/{path}" for path in PATHS]), {},
        "URLs, which are not downloaded",
    ),
    "other suffix": (
        lambda at: write_csv(at / "a.csv", [path.replace("jpg", "png") for path in PATHS]), {},
        r"there is photos/0.jpg. Correct the folder or the suffix\.$",
    ),
    "other names": (
        lambda at: write_csv(at / "a.csv", ["x" * 999 + f"{i}.jpg" for i in range(COUNT)]), {},
        r"such as x{60}\.\.\.x+0.jpg\): of the 12 photos below .*, such as photos/0.jpg, no",
    ),
    "no photos": (
        lambda at: write_bytes(at / "a.csv", b"path,label\na.jpg,Apple\n"), {},
        "no photo lies below .*Put the table beside the photos' folders",
    ),
    "two of an id": (
        lambda at: write_csv(
            write_photos(at / "other", PATHS).parent / "a.csv", range(COUNT), header=("id", "label")
        ), {},
        "a.csv: 0 may be any of other/photos/0.jpg, photos/0.jpg. Write the path from the table's",
    ),
    "no header": (
        lambda at: write_csv(at / "a.csv", header=(PATHS[0], NAMES[0])), {},
        "unclear which column it is. The first line must name them. Name one of photos/0.jpg, App",
    ),
    "one column": (
        lambda at: write_bytes(at / "a.csv", b"path label\na.jpg Apple\n"), {},
        r"only one column, path label. Separate the columns by commas, semicolons, tabs or \|",
    ),
    "several classes": (
        lambda at: write_csv(
            at / "a.csv", labels=["1"] * COUNT, more=["1"] * COUNT, header=("path", *LABELS)
        ), {},
        "of the classes Apple, Açaí, 12 rows have several and 0 none .* A photo needs exactly one",
    ),
    "two labels": (
        lambda at: write_csv(at / "a.csv", [PATHS[0], PATHS[0], *PATHS[2:]]), {},
        r"1 file with more than one label \(photos/0.jpg as Apple and Açaí\)",
    ),
    "ragged": (
        lambda at: write_bytes(at / "a.csv", b"path,label\na,b\nc,d\ne,f,g\n"), {},
        "Expected 2 fields in line 4, saw 3",
    ),
    "two kinds": (
        lambda at: (TABLES["csv"](at), write_bytes(at / "b.jsonl", b"{}").parent)[1], {},
        "holds .csv and .jsonl files",
    ),
    "no file": (lambda at: at / "*.csv", {}, "no table or archive fits this pattern"),
    "url": (lambda at: "https://example.com/a.parquet", {}, "only shards .* Download it first"),
    "url of a dataset": (
        lambda at: "https://huggingface.co/datasets/user/fruits", {}, "Give its id, user/fruits",
    ),
    "two zips": (
        lambda at: (write_zip(at / "a.zip", PATHS), write_zip(at / "b.zip", PATHS), at)[2], {},
        "holds 2 zips. Unpack them",
    ),
    "both": (TABLES["csv"], {"dataset_name": "user/fruits"}, "give one of them"),
    "no id": (lambda at: None, {"dataset_name": "https://x.org/y"}, "not a Hub dataset id"),
    "offline": (lambda at: None, {"dataset_name": "user/fruits"}, "the Hub can't be reached"),
}  # fmt: skip
UNUSABLE_SHARDS = {
    "no json field": (
        lambda at: write_tar(at / "a.tar", samples("json", lambda i: '{"w": 1}')), {},
        "label_column_name: unclear which column it is. Name one of w, __key__, jpg",
    ),
    "cut": (
        lambda at: cut(SHARDS["two shards"](at) / "fruits-001.tar", 6000).parent, {}, "truncated",
    ),
    "damaged": (lambda at: spoil(SHARDS["cls"](at)), {}, "bad checksum"),
    "no images": (
        lambda at: write_tar(at / "a.tar", [("a.txt", b"a"), ("a.cls", b"1")]), {}, "no (pi|im)",
    ),
    "empty shard": (lambda at: (SHARDS["two shards"](at), write_tar(at / "a.tar", []))[0], {},
                    "no samples in it"),
}  # fmt: skip


@pytest.mark.parametrize("case", [*UNUSABLE, *UNUSABLE_SHARDS])
def test_what_cant_be_used_is_explained_in_one_line(case, tmp_path):
    write, options, message = (UNUSABLE | UNUSABLE_SHARDS)[case]
    with pytest.raises(InputError, match=message) as caught:
        load_fruits(DataArguments(write(tmp_path), **options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", UNUSABLE_SHARDS)
def test_what_cant_be_streamed_is_explained_in_one_line(case, tmp_path):
    write, options, message = UNUSABLE_SHARDS[case]
    with pytest.raises(InputError, match=message) as caught:
        list(open_source(DataArguments(write(tmp_path), streaming=True, **options)).splits["train"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["folder", "zip, one top folder"])
def test_photos_in_folders_are_not_streamed(form, tmp_path):
    with pytest.raises(InputError, match="streaming is for shards, tables and the Hub"):
        open_source(DataArguments(ARCHIVES[form](tmp_path), streaming=True))


def test_an_archive_is_named_in_what_is_said_of_its_folders(tmp_path):
    file = write_zip(tmp_path / "a.zip", [f"{number}.jpg" for number in range(COUNT)])
    with pytest.raises(InputError, match=r"a\.zip: images, but no class folders"):
        load_fruits(file)


# ---- the Hub, by a small one on this machine and the real client ----

CLIENT = """
import json, os, sys, time
if os.environ.get("IMPATIENT"):
    time.sleep = lambda seconds: None  # between the client's five tries
from hffruits.data.load import load_fruits
from hffruits.core.errors import InputError
from hffruits.data.readers import tables
from hffruits.data.sources import open_source
from hffruits.data.arguments import DataArguments
def run(case):
    os.environ["HF_TOKEN"] = case.pop("token", "")
    try:
        if case.get("streaming"):
            found = open_source(DataArguments(**case)).splits
            splits = {split: list(rows) for split, rows in found.items()}
            assert all(row["image"]["bytes"] for rows in splits.values() for row in rows)
            return {s: sorted(row["label"] for row in rows) for s, rows in splits.items()}
        data = load_fruits(DataArguments(**case))
        names = data["train"].features["label"].names
        return {s: sorted(names[label] for label in rows["label"]) for s, rows in data.items()}
    except InputError as error:
        return str(error)
print(json.dumps([run(case) for case in json.loads(sys.argv[1])]))
"""


def ask(url: str, cases: Iterable[dict], folder: Path, **environment: str) -> list:
    """What the real client gets of a hub, in a process of its own: it reads HF_ENDPOINT once."""
    own = {"HF_ENDPOINT": url, "HF_HOME": str(folder / "hf"), "HFFRUITS_CACHE": str(folder / "own")}
    set_here = {"HF_HUB_OFFLINE", "HF_DATASETS_CACHE"}
    known = {name: value for name, value in os.environ.items() if name not in set_here}
    words, environment = ["-c", CLIENT, json.dumps(list(cases))], known | own | environment
    done = warm.run(words, env=environment, cwd=folder, folder=folder)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout)


def parquet_bytes(numbers: Iterable[int] = range(COUNT)) -> bytes:
    file = io.BytesIO()
    as_dataset(numbers).to_parquet(file)
    return file.getvalue()


CONFIGS = b"""---
configs:
- config_name: red
  data_files:
  - {split: train, path: red/*.parquet}
- config_name: green
  data_files:
  - {split: learn, path: green/a.parquet}
  - {split: check, path: green/b.parquet}
---
"""
KEYS = ["Apple/Red/0", "Apple/Red/1", "Pepper/Red/2", "Pepper/Red/3", "Lime/4", "Lime/5"]


def tar_bytes(keys: Iterable[str]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for key in keys:
            photo = IMAGES[int(key[-1])]
            member = tarfile.TarInfo(f"{key}.jpg")
            member.size = len(photo)
            tar.addfile(member, io.BytesIO(photo))
    return file.getvalue()


REPOS = {
    "user/keys": Repo(
        {"train-0.tar": tar_bytes(KEYS), "validation-0.tar": tar_bytes(["Lime/6", "Apple/Red/7"])}
    ),
    "user/fruits": Repo(
        {
            "README.md": b"# Fruits",
            "data/train-00000-of-00002.parquet": parquet_bytes(range(4)),
            "data/train-00001-of-00002.parquet": parquet_bytes(range(4, 8)),
            "data/validation-00000-of-00001.parquet": parquet_bytes([8, 9]),
            "data/test-00000-of-00001.parquet": parquet_bytes([10, 11]),
        }
    ),
    "user/configs": Repo(
        {
            "README.md": CONFIGS,
            "red/a.parquet": parquet_bytes(),
            "green/a.parquet": parquet_bytes(range(8)),
            "green/b.parquet": parquet_bytes(range(8, COUNT)),
        }
    ),
    "user/photos": Repo(dict(zip([f"train/{path}" for path in IN_CLASSES], IMAGES, strict=True))),
    "user/paths": Repo({"train.csv": b"image,label\n/etc/passwd,Apple\n/etc/hosts,Lime\n"}),
    "user/secret": Repo({"train.parquet": parquet_bytes()}, private=True),
    "user/gated": Repo({"train.parquet": parquet_bytes()}, gated=True),
}
WHOLE = {"train": sorted(NAMES[:8]), "validation": sorted(NAMES[8:10]), "test": sorted(NAMES[10:])}
GREEN = {
    "dataset_config_name": "green", "train_split_name": "learn", "validation_split_name": "check",
}  # fmt: skip
ON_HUB = {
    "splits": ({"dataset_name": "user/fruits"}, WHOLE),
    "streamed": ({"dataset_name": "user/fruits", "streaming": True}, WHOLE),
    "columns": (
        {
            "dataset_name": "user/fruits",
            "image_column_name": "image",
            "label_column_name": "label",
        },
        WHOLE,
    ),
    "no column": (
        {"dataset_name": "user/fruits", "label_column_name": "sort"},
        "user/fruits: label_column_name: no column 'sort'. Name one of image, label.",
    ),
    "named splits": (
        {"dataset_name": "user/configs", **GREEN},
        {"train": sorted(NAMES[:8]), "validation": sorted(NAMES[8:])},
    ),
    "no split": (
        {"dataset_name": "user/configs", **GREEN, "train_split_name": "x"},
        "user/configs: has no split 'x'. It has learn, check.",
    ),
    "unusual splits": (
        {"dataset_name": "user/configs", "dataset_config_name": "green"},
        "user/configs: none of its splits (learn, check) is called train. Name one as "
        "train_split_name.",
    ),
    "no config": (
        {"dataset_name": "user/configs"},
        "user/configs: has several configurations. Name one of 'red', 'green' as "
        "dataset_config_name.",
    ),
    "unknown config": (
        {"dataset_name": "user/configs", "dataset_config_name": "blue"},
        "user/configs: no configuration 'blue'. Name one of 'red', 'green' as dataset_config_name.",
    ),
    "photos streamed": (
        {"dataset_name": "user/photos", "streaming": True}, {"train": sorted(NAMES)},
    ),
    "photos downloaded": (
        {"dataset_name": "user/photos"},
        {"train": sorted(4 * LABELS), "validation": sorted(LABELS), "test": sorted(LABELS)},
    ),
    "paths": (
        {"dataset_name": "user/paths"},
        "user/paths: image: text, not images. Download the files, and give the table beside "
        "them as data_dir.",
    ),
    "keys": (
        {"dataset_name": "user/keys"},
        {
            "train": sorted(2 * ["Apple/Red", "Lime", "Pepper/Red"]),
            "validation": ["Apple/Red", "Lime"],
        },
    ),
    "folders of columns": (
        {"dataset_name": "user/fruits", "label_from": "leaf"},
        "label_from=leaf: is for folders, and user/fruits names its classes in a column. Leave it "
        "out, or name the column as label_column_name.",
    ),
    "private": (
        {"dataset_name": "user/secret"},
        "user/secret: no such dataset, or it is private. Check the name, or log in with `hf auth "
        "login`.",
    ),
    "private, logged in": (
        {"dataset_name": "user/secret", "token": TOKEN, "streaming": True},
        {"train": sorted(NAMES)},
    ),
    "gated": (
        {"dataset_name": "user/gated"},
        "user/gated: gated. Ask for access on its page, then log in with `hf auth login`.",
    ),
    "missing": (
        {"dataset_name": "user/none"},
        "user/none: no such dataset, or it is private. Check the name, or log in with `hf auth "
        "login`.",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> dict[str, object]:
    """What came of each case, all asked in one process."""
    repos = {("dataset", name): repo for name, repo in REPOS.items()}
    with serve_hub(repos) as hub:
        found = ask(hub.url, [case for case, _ in ON_HUB.values()], tmp_path_factory.mktemp("hub"))
    return dict(zip(ON_HUB, found, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("case", ON_HUB)
def test_a_hub_dataset_is_read_or_the_reason_is_given(case, answers):
    assert answers[case] == ON_HUB[case][1]


@pytest.mark.slow
def test_a_hub_that_is_down_is_reported(tmp_path):
    with serve_hub({}) as hub:
        url = hub.url
    (answer,) = ask(url, [{"dataset_name": "user/fruits"}], tmp_path, IMPATIENT="1")
    assert answer.startswith("user/fruits: the Hub can't be reached (") and "\n" not in answer


def test_a_hub_dataset_with_labels_in_some_splits_only_is_refused(monkeypatch):
    labelled = as_dataset(range(4))
    keyed = labelled.rename_column("label", "__key__")
    found = {"train": labelled, "validation": keyed}
    monkeypatch.setattr(tables, "_load_hub", lambda *_, **__: found)
    with pytest.raises(InputError, match="user/x: some splits have labels, others only folders"):
        open_source(DataArguments(dataset_name="user/x"))


def test_a_folder_of_the_name_of_a_hub_dataset_is_not_taken_for_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("user/fruits").mkdir(parents=True)
    with pytest.raises(InputError, match=r"also a local folder\. Give it as data_dir"):
        open_source(DataArguments(dataset_name="user/fruits"))
