"""The upload folder: its files are counted, bounded, and removed if left behind."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hffruits.demo import upload_folder
from hffruits.demo.upload_folder import ABANDONED_SECONDS, ENTRY_BYTES, STALE_SECONDS, UploadFolder


def write(path: Path, size: int = 10, *, age: float = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    for each in (path, path.parent):
        os.utime(each, (time.time() - age,) * 2)
    return path


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch):
    """Sets how much the file system has left."""
    disk = upload_folder.shutil.disk_usage("/")

    def set_free(size: int) -> None:
        monkeypatch.setattr(upload_folder.shutil, "disk_usage", lambda _: disk._replace(free=size))

    monkeypatch.setattr(upload_folder, "MEASURED_FOR", 0.0)
    return set_free


def test_all_files_in_the_folder_count_whoever_wrote_them(tmp_path: Path, free) -> None:
    folder = UploadFolder(tmp_path)
    write(tmp_path / "sent" / "a.jpg", 50_000)
    write(tmp_path / "batch" / "0" / "a.jpg", 30_000)  # unpacked
    write(tmp_path / "thumbnail" / "a.jpg", 1)
    folders = 4 * ENTRY_BYTES
    kept = 80_000 + ENTRY_BYTES + folders
    folder.measure()
    free(3 * kept + 4)
    assert folder.bound == kept + 1 and not folder.is_full()
    folder.add(5)
    assert folder.is_full()
    free(10**15)
    assert folder.bound == upload_folder.MAX_BYTES and not folder.is_full()


def test_what_is_left_behind_is_removed_and_the_pages_own_files_stay(tmp_path: Path, free) -> None:
    own = write(tmp_path / "example" / "a.webp", age=9 * STALE_SECONDS)
    folder = UploadFolder(tmp_path)
    gone = [
        write(tmp_path / "tmpabc", age=ABANDONED_SECONDS + 60),  # broken off
        write(tmp_path / "old" / "a.jpg", age=STALE_SECONDS + 60),
    ]
    stay = [
        write(tmp_path / "used" / "b.jpg"),
        write(tmp_path / "used" / "a.jpg", age=STALE_SECONDS + 60),
        write(tmp_path / "sent" / "a.jpg", age=STALE_SECONDS - 60),
        write(tmp_path / "tmpdef"),
    ]
    (tmp_path / "empty").mkdir()
    os.utime(tmp_path / "empty", (time.time() - STALE_SECONDS - 60,) * 2)
    folder.measure()
    assert not [path for path in gone if path.exists()] and not (tmp_path / "empty").exists()
    assert own.exists() and all(path.exists() for path in stay)


def test_a_folder_that_a_cleaner_has_removed_is_made_again(tmp_path: Path, free) -> None:
    (tmp_path / "root").mkdir()
    folder = UploadFolder(tmp_path / "root")
    for use in (folder.measure, folder.is_full):
        (tmp_path / "root").rmdir()
        use()
        assert (tmp_path / "root").is_dir()


def test_an_upload_that_windows_keeps_open_stays_without_an_error(
    tmp_path: Path, free, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = UploadFolder(tmp_path)
    write(tmp_path / "tmpabc", age=ABANDONED_SECONDS + 60)

    def refuse(path: Path) -> None:
        raise PermissionError(13, "The process cannot access the file")

    monkeypatch.setattr(Path, "unlink", refuse)
    folder.measure()
    assert (tmp_path / "tmpabc").exists()


def test_a_link_is_counted_and_removed_but_not_followed(tmp_path: Path, free) -> None:
    elsewhere = write(tmp_path / "elsewhere" / "a.jpg", 10**6)
    (tmp_path / "root").mkdir()
    folder = UploadFolder(tmp_path / "root")
    (tmp_path / "root" / "link").symlink_to(elsewhere.parent)
    folder.measure()
    free(3 * ENTRY_BYTES)
    assert folder.bound == ENTRY_BYTES and not folder.is_full()
    os.utime(tmp_path / "root" / "link", (0, 0), follow_symlinks=False)
    folder.measure()
    assert elsewhere.exists()


def test_the_folder_is_new_below_the_one_that_is_chosen_and_goes_with_the_process(
    tmp_path: Path,
) -> None:
    (tmp_path / "chosen").mkdir()
    write(tmp_path / "chosen" / "private.jpg")
    code = (
        "from hffruits.demo.upload_folder import temporary_folder\n"
        "import os; place = temporary_folder(); assert place == temporary_folder()\n"
        "assert not os.listdir(place) and os.environ['GRADIO_TEMP_DIR'] == str(place); print(place)"
    )
    environment = os.environ | {"GRADIO_TEMP_DIR": str(tmp_path / "chosen")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert Path(done.stdout.strip()).parent == tmp_path / "chosen"
    assert [path.name for path in (tmp_path / "chosen").iterdir()] == ["private.jpg"]
