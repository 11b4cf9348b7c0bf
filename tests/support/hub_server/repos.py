"""Repositories as git holds them: each commit a whole snapshot, named by branches and tags."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

KINDS = {"models": "model", "datasets": "dataset", "spaces": "space"}
_LFS_SUFFIXES_TEXT = """
.7z .arrow .bin .bz2 .ckpt .gif .gz .h5 .jpeg .jpg .joblib .keras .lz4 .mp4 .msgpack .npy .npz
.onnx .ot .parquet .pb .pdf .pickle .pkl .png .pt .pth .safetensors .tar .tflite .tgz .tiff .wav
.webp .xz .zip .zst
"""
LFS_SUFFIXES = tuple(_LFS_SUFFIXES_TEXT.split())
LFS_FROM = 1_000_000  # bytes; 10 MB in truth
ATTRIBUTES = "".join(f"*{end} filter=lfs diff=lfs merge=lfs -text\n" for end in LFS_SUFFIXES)
FIRST_DATE = datetime(2026, 1, 1, tzinfo=UTC)  # of each repository; its commits are a second apart


@dataclass(frozen=True)
class Account:
    """Whose token it is, and what it may do: "write" or "read"."""

    name: str
    role: str = "write"


@dataclass(frozen=True)
class File:
    """One file of a snapshot; git holds a pointer in place of an LFS file."""

    content: bytes
    lfs: bool = False

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def pointer(self) -> bytes:
        lines = f"oid sha256:{self.sha256}\nsize {len(self.content)}\n"
        return f"version https://git-lfs.github.com/spec/v1\n{lines}".encode()

    @cached_property
    def blob(self) -> str:
        """The git id: https://git-scm.com/book/en/v2/Git-Internals-Git-Objects."""
        held = self.pointer if self.lfs else self.content
        return hashlib.sha1(b"blob %d\0" % len(held) + held).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.blob


@dataclass(frozen=True)
class Commit:
    """A snapshot, {path: file}, and how it came about."""

    sha: str
    files: dict[str, File]
    title: str
    message: str
    author: str
    date: datetime


def needs_lfs(path: str, size: int, lfs_from: int = LFS_FROM) -> bool:
    return size > 0 and (size >= lfs_from or path.endswith(LFS_SUFFIXES))


class Repo:
    """One repository: its history, its LFS objects, and who may read it."""

    def __init__(
        self, files: dict[str, bytes] | None = None, private: bool = False, gated: bool = False
    ):
        self.private, self.gated = private, gated
        self.commits: dict[str, Commit] = {}
        self.parents: dict[str, str | None] = {}
        self.branches: dict[str, str] = {}  # {"main": sha}
        self.tags: dict[str, str] = {}
        self.objects: dict[str, bytes] = {}  # {sha256: content}
        self.uploads: dict[str, Upload] = {}  # {sha256: what is still to come}
        self.sdk: str | None = None  # of a Space
        first = {
            path: File(data, needs_lfs(path, len(data))) for path, data in (files or {}).items()
        }
        self.objects |= {file.sha256: file.content for file in first.values() if file.lfs}
        self.commit("main", first, title="initial commit")

    @property
    def sha(self) -> str:
        """The newest commit of main."""
        return self.branches["main"]

    @property
    def files(self) -> dict[str, bytes]:
        """The newest snapshot of main."""
        return {path: file.content for path, file in self.commits[self.sha].files.items()}

    def commit(
        self,
        branch: str,
        files: dict[str, File],
        *,
        title: str,
        message: str = "",
        author: str = "",
    ) -> Commit:
        parent = self.branches.get(branch)
        digest = hashlib.sha1(f"{parent}\0{title}\0{message}\0{author}".encode())
        for path, file in sorted(files.items()):
            digest.update(f"\0{path}\0{file.blob}".encode())
        sha = digest.hexdigest()
        date = FIRST_DATE + timedelta(seconds=len(self.commits))
        self.commits[sha] = Commit(sha, files, title, message, author, date)
        self.parents[sha] = parent
        self.branches[branch] = sha
        return self.commits[sha]

    def find(self, revision: str) -> Commit | None:
        """The commit that a branch, a tag or a sha names."""
        name = revision.removeprefix("refs/heads/").removeprefix("refs/tags/")
        return self.commits.get(self.branches.get(name) or self.tags.get(name) or revision)

    def history(self, commit: Commit) -> Iterator[Commit]:
        """The commit and those before it, newest first."""
        sha: str | None = commit.sha
        while sha is not None:
            yield self.commits[sha]
            sha = self.parents[sha]


@dataclass
class Upload:
    """An LFS object that a client is to send: its parts so far, {number: content}."""

    size: int
    parts: dict[int, bytes]
