"""WebDataset shards as standard rows.

Not by the builder of `datasets`, which takes a `cls` for a number, goes by the members of the first
samples, and drops images where a file of their name is in the working folder.
"""

import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import PurePosixPath

import fsspec
from datasets import Dataset, IterableDataset

from hffruits.core.errors import InputError
from hffruits.data.images import VIDEO, is_hidden, is_image_head, unread_format
from hffruits.data.readers.column_mapping import (
    AskedColumns,
    Columns,
    FoundRows,
    Row,
    images_in,
)
from hffruits.data.readers.error_translation import quiet, translate_dataset_errors
from hffruits.data.readers.image_cells import image_of
from hffruits.data.readers.own_splits import NamedRows, split_rows

MAX_BYTES = 2**28  # of a member: what is larger is not an image
VERSION = 5  # of how shards become rows: raise it when that changes


def load_webdataset(
    shards: dict[str, list[str]],
    asked: AskedColumns,
    *,
    streaming: bool = False,
) -> FoundRows:
    """The rows of WebDataset shards by split (paths or URLs of .tar files).

    The label is the `cls` or `txt` member of a sample, a field of its `json`, or the folder of its
    key: all of it, for `folders.name_folders` needs all rows to tell which class that is.
    """
    first = next(iter(shards.values()))[0]
    with translate_dataset_errors(first):
        sample = next(_samples(first), None)
    if sample is None:
        raise InputError(f"{first}: no samples in it. Give shards that hold images and labels.")
    columns = asked.of_sample(sample, first)
    places = _places([shard for some in shards.values() for shard in some])
    found: list[NamedRows] = []
    for split, some in shards.items():
        own = columns if split == "train" else replace(columns, split=None)
        options = {
            "features": own.features,
            "gen_kwargs": {"shards": [(s, places[s]) for s in some], "columns": own},
        }
        if streaming:
            rows = IterableDataset.from_generator(_shard_rows, **options)
            found.append(NamedRows(split, rows, some[0]))
            continue
        # `datasets` keeps what it made for the same arguments.
        options["gen_kwargs"]["version"] = (VERSION, *map(_state, some))
        with translate_dataset_errors(first), quiet():
            rows = Dataset.from_generator(_shard_rows, **options)
        found.append(NamedRows(split, rows, some[0], {places[shard] for shard in some}))
    return FoundRows(split_rows(found), key_folders=columns.key_folders)


# ---- WebDataset ----


def _places(shards: list[str]) -> dict[str, str]:
    """What each shard is called in the names of its rows: `train/000`, where `val` has one too."""
    paths = {shard: PurePosixPath(shard.replace(os.sep, "/")) for shard in shards}
    top = os.path.commonpath([str(path.parent) for path in paths.values()])
    shared = len(PurePosixPath(top).parts)
    return {
        shard: str(PurePosixPath(*path.parts[shared:-1], path.name.split(".")[0]))
        for shard, path in paths.items()
    }


def _shard_rows(
    shards: list[tuple[str, str]], columns: Columns, version: object = None
) -> Iterator[Row]:
    """Standard rows of some shards; `version` keeps apart what `datasets` caches of them."""
    padding = dict.fromkeys(columns.texts)
    for shard, place in shards:
        with translate_dataset_errors(shard):
            for sample in _samples(shard):
                found = [columns.image] if columns.image else images_in(sample)
                if len(found) > 1:
                    raise InputError(
                        f"{shard}: {sample['__key__']} has the images {', '.join(found)}. Name "
                        "the one that counts as image_column_name."
                    )
                content = sample.get(found[0]) if found else None
                text = columns.text_of(padding | sample, place)
                if found and (why := unread_format(f"_.{found[0]}")):  # shown by no content, maybe
                    text["path"] += f".{found[0]}"
                    content = content[:1024] if why == VIDEO and content else content
                yield {"image": image_of(content)} | text


def _samples(shard: str) -> Iterator[Row]:
    """Each sample of a tar: `__key__`, the members by their extensions, the fields of its JSON."""
    with (
        fsspec.open(shard) as file,
        tarfile.open(fileobj=file, mode="r|*", tarinfo=_TarHeader) as tar,
    ):
        members = ((*_key_of(info.name), info) for info in _members(tar))
        shown = ((key, name, info) for key, name, info in members if key)
        for key, group in groupby(shown, key=lambda member: member[0]):
            contents: dict[str, bytes] = {}
            for _, name, info in group:
                if info.size > MAX_BYTES:
                    raise InputError(f"{shard}: {info.name} has {info.size:,} bytes. Remove it.")
                if name in contents:
                    raise InputError(
                        f"{shard}: {info.name}: its key has a .{name} already. Pack each photo "
                        "under a key of its own."
                    )
                content = tar.extractfile(info).read()
                if name or is_image_head(content):  # else a note such as README
                    contents[name] = content
            if contents:
                fields = json.loads(contents.pop("json", b"{}"))
                fields = fields if isinstance(fields, dict) else {"json": fields}
                yield fields | {"__key__": key} | contents


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The files of a tar one by one; tarfile would keep the headers of all."""
    while (info := tar.next()) is not None:
        tar.members.clear()
        if info.isfile():
            yield info


class _TarHeader(tarfile.TarInfo):
    """A header that raises for damage; tarfile would take that for the end of the shard."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> tarfile.TarInfo:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if buf.count(0) == len(buf):  # the end mark
                raise
            raise tarfile.ReadError(str(error)) from error


def _key_of(name: str) -> tuple[str | None, str]:
    """`Apple/001.seg.png` -> `Apple/001`, `seg.png`. See github.com/webdataset/webdataset."""
    path = PurePosixPath(name)
    stem, _, extension = path.name.partition(".")
    if not stem or any(is_hidden(part) for part in path.parts):
        return None, ""
    return path.with_name(stem).as_posix(), extension.lower()


def _state(shard: str) -> str:
    """What changes when a shard does."""
    with translate_dataset_errors(shard):
        system, path = fsspec.url_to_fs(shard)
        info = system.info(path)
    return " ".join(str(info.get(key)) for key in ("size", "mtime", "ETag", "blob_id"))
