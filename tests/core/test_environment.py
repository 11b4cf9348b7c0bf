"""A run records its environment, and can be reproduced to the bit."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from support.runs import quick_arguments, tiny_arguments

from hffruits import __version__, load_fruits
from hffruits.core.environment import environment, git_state
from hffruits.core.errors import InputError
from hffruits.training.run import train

pytestmark = pytest.mark.usefixtures("without_report")


def test_a_fingerprint_is_of_images_labels_and_splits_only(drawn_fruits, tmp_path):
    wanted = load_fruits(drawn_fruits).fingerprint
    moved = shutil.copytree(drawn_fruits, tmp_path / "moved")
    for number, file in enumerate(sorted(moved.rglob("*.png"), reverse=True)):
        file.rename(file.with_name(f"renamed {number}.png"))
    assert load_fruits(moved).fingerprint == wanted
    first, second = sorted(moved.glob("train/*/*.png"))[:2]
    first.write_bytes(second.read_bytes())
    changed = load_fruits(moved).fingerprint
    assert changed != wanted
    shutil.move(second, moved / "test" / second.parent.name / "new.png")
    assert load_fruits(moved).fingerprint not in (wanted, changed)


def test_a_run_records_its_versions_machine_and_data(trained, drawn_fruits):
    arguments = json.loads((trained / "training_args.json").read_text())
    metrics = json.loads((trained / "metrics.json").read_text())
    made_with = arguments["environment"]
    assert made_with["versions"] == metrics["versions"]
    assert made_with["versions"]["hffruits"] == __version__
    assert torch.__version__.startswith(made_with["versions"]["torch"])
    assert made_with["cores"] >= 1 and made_with["python"].startswith("3.")
    fingerprint = load_fruits(drawn_fruits).fingerprint
    assert arguments["data_fingerprint"] == metrics["data"]["fingerprint"] == fingerprint


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_the_git_state_is_that_of_the_folder(tmp_path):
    assert git_state(tmp_path) is None
    assert environment(torch.device("cpu"), tmp_path)["git"] is None

    def git(*words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(
            ["git", *who, *words], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git("init")
    (tmp_path / "run.yaml").write_text("seed: 1\n")
    git("add", "run.yaml")
    git("commit", "-m", "One")
    state = git_state(tmp_path)
    assert state == {"commit": git("rev-parse", "HEAD"), "changed": False}
    (tmp_path / "notes.txt").touch()  # not under version control
    assert git_state(tmp_path) == state
    (tmp_path / "run.yaml").write_text("seed: 2\n")
    assert git_state(tmp_path) == state | {"changed": True}


@pytest.fixture
def deterministic():
    """Leaves PyTorch as it was."""
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic = False


@pytest.mark.slow
def test_full_determinism_gives_equal_weights(drawn_fruits, tmp_path, deterministic):
    files = []
    for name in ("one", "two"):
        options = {"full_determinism": True, "num_train_epochs": 1, "bf16": None}
        arguments = tiny_arguments(drawn_fruits, tmp_path / name, **options)
        assert not arguments[2].try_bf16  # which precision is faster is a matter of chance
        train(*arguments)
        files.append((tmp_path / name / "model.safetensors").read_bytes())
    assert torch.are_deterministic_algorithms_enabled()
    assert files[0] == files[1]


def test_full_determinism_refuses_what_depends_on_the_moment(drawn_fruits, tmp_path):
    arguments = quick_arguments(
        drawn_fruits, tmp_path / "run", full_determinism=True, time_budget="5m"
    )
    with pytest.raises(InputError, match="time_budget and full_determinism: what fits"):
        train(*arguments)


def test_a_run_resumed_with_other_photos_says_so(drawn_fruits, tmp_path, caplog):
    photos = shutil.copytree(drawn_fruits, tmp_path / "photos")
    folder = tmp_path / "run"
    options = {"num_train_epochs": 1, "save_strategy": "epoch"}
    train(*tiny_arguments(photos, folder, **options))
    (folder / "metrics.json").unlink()  # not yet finished
    again = options | {"resume_from_checkpoint": "last"}
    train(*tiny_arguments(photos, folder, **again))
    assert "photos have changed" not in caplog.text
    (folder / "metrics.json").unlink()
    first, second = sorted(photos.glob("train/*/*.png"))[:2]
    Path(first).write_bytes(second.read_bytes())
    train(*tiny_arguments(photos, folder, **again))
    assert "the photos have changed since this run began" in caplog.text


def test_a_run_is_resumed_where_its_photos_were_moved(drawn_fruits, tmp_path, caplog):
    photos, folder = shutil.copytree(drawn_fruits, tmp_path / "photos"), tmp_path / "run"
    options = {"num_train_epochs": 1, "save_strategy": "epoch"}
    first = train(*tiny_arguments(photos, folder, **options))
    (folder / "metrics.json").unlink()  # not yet finished
    moved = shutil.move(photos, tmp_path / "moved")
    again = options | {"resume_from_checkpoint": "last"}
    metrics = train(*tiny_arguments(moved, folder, **again))
    assert metrics["data"]["fingerprint"] == first["data"]["fingerprint"]
    assert metrics["test"]["accuracy"] == first["test"]["accuracy"]
    assert "photos have changed" not in caplog.text
    (folder / "metrics.json").unlink()
    one, two = sorted(moved.glob("train/*/*.png"))[:2]
    one.write_bytes(two.read_bytes())
    other = shutil.move(moved, tmp_path / "other")
    with pytest.raises(InputError, match=r"/other: other photos than those .* in .*/moved\. "):
        train(*tiny_arguments(other, folder, **again))
