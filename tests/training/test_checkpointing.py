"""A checkpoint is complete or skipped, and a full disk destroys nothing saved before."""

import errno
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support.runs import tiny_arguments

from hffruits.core.errors import InputError
from hffruits.training.checkpointing import (
    ASIDE,
    SUMS,
    checkpoints,
    delete_old,
    find_fault,
    newest_whole,
    publish,
    seal,
    translate_disk_errors,
)
from hffruits.training.run import train
from hffruits.training.run_dir import find_checkpoint

pytestmark = pytest.mark.usefixtures("without_report")

STEPWISE = {"save_strategy": "steps", "save_steps": 2, "save_total_limit": None, "ema_decay": 0.9}


@pytest.fixture(scope="module")
def run(drawn_fruits, tmp_path_factory) -> Path:
    """A run of 4 steps with a checkpoint at 2 and 4."""
    folder = tmp_path_factory.mktemp("saved") / "run"
    train(*tiny_arguments(drawn_fruits, folder, num_train_epochs=1, **STEPWISE))
    return folder


@pytest.fixture
def copied(run, tmp_path) -> Path:
    return shutil.copytree(run, tmp_path / "copied")


def test_a_checkpoint_has_the_checksums_of_all_its_files(run):
    assert [folder.name for folder in checkpoints(run)] == ["checkpoint-2", "checkpoint-4"]
    assert not (run / ASIDE).exists()
    for folder in checkpoints(run):
        assert find_fault(folder) is None
        listed = {line[66:] for line in (folder / SUMS).read_text().splitlines()}
        assert listed == {path.name for path in folder.iterdir()} - {SUMS}
        assert {"model.safetensors", "ema.safetensors", "optimizer.pt"} <= listed


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="needs sha256sum")
def test_sha256sum_reads_them_as_well(run):
    folder = checkpoints(run)[-1]
    subprocess.run(["sha256sum", "--check", "--strict", SUMS], cwd=folder, check=True)


def test_a_run_killed_before_it_could_name_a_checkpoint_has_it_still(copied):
    newest = checkpoints(copied)[-1]
    (copied / ASIDE).mkdir()
    newest.rename(copied / ASIDE / newest.name)
    (copied / ASIDE / "checkpoint-6").mkdir()  # only begun
    assert find_checkpoint("last", str(copied)) == newest
    assert find_fault(newest) is None


def test_hidden_files_count_but_for_the_systems_own(copied):
    folder = checkpoints(copied)[-1]
    (folder / ".DS_Store").touch()
    (folder / ".metadata").write_text("of FSDP's shards")
    seal(folder)
    (folder / ".DS_Store").unlink()
    assert find_fault(folder) is None
    (folder / ".metadata").unlink()
    assert find_fault(folder) == ".metadata can't be read (No such file or directory)"


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("harm", [truncate, flip, Path.unlink])
def test_a_damaged_file_is_found_and_the_checkpoint_before_taken(copied, harm, caplog):
    newest = copied / "checkpoint-4"
    for file in sorted(newest.iterdir()):
        content = file.read_bytes()
        harm(file)
        caplog.clear()
        assert newest_whole(copied) == copied / "checkpoint-2", file.name
        assert f"{newest}: " in caplog.text and "skipped" in caplog.text
        file.write_bytes(content)
    assert newest_whole(copied) == newest


def test_checksums_that_were_cut_short_are_found(copied):
    sums = copied / "checkpoint-4" / SUMS
    for lines in (0, 3):
        sums.write_text("".join(sums.read_text().splitlines(keepends=True)[:lines]))
        assert "is damaged" in find_fault(sums.parent)


def test_a_checkpoint_whose_best_one_is_damaged_is_skipped(copied):
    newest = copied / "checkpoint-4"
    state = json.loads((newest / "trainer_state.json").read_text())
    state["best_model_checkpoint"] = "/elsewhere/before/it/moved/checkpoint-2"
    (newest / "trainer_state.json").write_text(json.dumps(state))
    publish(shutil.move(newest, copied / "new"), newest)
    assert newest_whole(copied) == newest
    truncate(copied / "checkpoint-2" / "model.safetensors")
    assert find_fault(newest) == "its best checkpoint, checkpoint-2: model.safetensors is damaged"
    assert newest_whole(copied) is None


def test_a_run_resumes_before_a_damaged_checkpoint_and_replaces_it(copied, drawn_fruits):
    (copied / "metrics.json").unlink()  # not yet finished
    flip(copied / "checkpoint-4" / "optimizer.pt")
    expected = (copied / "model.safetensors").read_bytes()
    options = STEPWISE | {"num_train_epochs": 1, "resume_from_checkpoint": "last"}
    train(*tiny_arguments(drawn_fruits, copied, **options))
    assert find_fault(copied / "checkpoint-4") is None
    assert (copied / "model.safetensors").read_bytes() == expected


def test_the_oldest_go_and_before_them_what_the_run_did_not_go_on_from(tmp_path):
    def names() -> list[str]:
        return [folder.name.split("-")[1] for folder in checkpoints(tmp_path)]

    def make(*steps: int) -> None:
        for step in steps:
            (tmp_path / f"checkpoint-{step}").mkdir(exist_ok=True)

    make(5, 10, 15, 20)
    newest, best = tmp_path / "checkpoint-20", tmp_path / "checkpoint-5"
    delete_old(newest, keep={newest}, limit=None)
    delete_old(newest, keep={newest}, limit=4)
    assert names() == ["5", "10", "15", "20"]
    delete_old(newest, keep={newest, best}, limit=2)
    assert names() == ["5", "20"]
    make(6, 7, 8)
    newest = tmp_path / "checkpoint-8"  # the run resumed from about step 6, not from 20
    delete_old(newest, keep={newest, best}, limit=3)
    assert names() == ["5", "7", "8"]
    delete_old(newest, keep={newest, best}, limit=1)
    assert names() == ["5", "8"]


def test_other_errors_than_a_full_disk_are_left_alone(tmp_path):
    for error in (OSError(errno.EACCES, "no"), RuntimeError("no")):
        with pytest.raises(type(error), match="no"), translate_disk_errors(tmp_path):
            raise error
    with pytest.raises(InputError, match="the disk is full"), translate_disk_errors(tmp_path):
        raise OSError(errno.ENOSPC, "no space")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def small_disk(run, tmp_path):
    """A disk of its own that has room for one checkpoint of the tiny net and not for two."""
    folder = tmp_path / "disk"
    folder.mkdir()
    checkpoint = sum(path.stat().st_size for path in checkpoints(run)[0].iterdir())
    size = f"size={checkpoint * 3 // 2 // 1024}k"
    mount = ["mount", "-t", "tmpfs", "-o", size, "hffruits-test", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk takes root")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_ends_a_run_and_leaves_the_checkpoint_before_it(small_disk, drawn_fruits):
    folder = small_disk / "run"
    with pytest.raises(InputError, match=r"the disk is full \(\d+ MB are left\)\. Free some"):
        train(*tiny_arguments(drawn_fruits, folder, num_train_epochs=2, **STEPWISE))
    assert [path.name for path in checkpoints(folder)] == ["checkpoint-2"]
    assert not (folder / ASIDE).exists()
    assert newest_whole(folder) == folder / "checkpoint-2"
