"""The parts of the release check. `make dist` runs it whole, in an empty environment."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
SPEC = importlib.util.spec_from_file_location("check_release", ROOT / "scripts/check_release.py")
check = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(check)


@pytest.mark.slow
def test_the_demo_of_a_run_is_served_asked_and_stopped(trained, tmp_path):
    (tmp_path / "run").symlink_to(trained)
    photo = check.sample_photo(BIN, tmp_path)
    with check.serve_demo(BIN, tmp_path) as url:
        assert httpx.get(f"{url}health").json()["status"] == "ok"
        label = check.ask_demo(url, photo)
    assert label and isinstance(label, str)
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


@pytest.mark.slow
def test_a_demo_that_does_not_start_fails_the_check(tmp_path):
    with (
        pytest.raises(SystemExit, match=r"the demo did not start \(exit code 2\)"),
        check.serve_demo(BIN, tmp_path),  # without a model
    ):
        pass


def test_a_command_that_fails_is_named_with_its_exit_code():
    with pytest.raises(SystemExit, match=r"python\S*: failed with exit code 3"):
        check.run([sys.executable, "-c", "raise SystemExit(3)"])


def test_commands_do_not_see_this_source_tree(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    path = "import os, sys; sys.exit('PYTHONPATH' in os.environ)"
    check.run([sys.executable, "-c", path])


def test_a_page_that_is_not_the_demo_fails_the_check(tmp_path):
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as server:
        try:
            url = server.stdout.readline().split("(")[1].split(")")[0]
            with pytest.raises(SystemExit, match="no page of the demo"):
                check.ask_demo(url, tmp_path / "photo.jpg")
        finally:
            server.terminate()
