"""The parts of the release check. `make dist` runs it whole, in an empty environment."""

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from hffruits import FruitClassifier

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
sys.path.append(str(ROOT / "scripts"))
import check_release as check  # noqa: E402
from demo_server import serve_demo  # noqa: E402


@pytest.mark.slow
def test_the_demo_of_a_run_is_served_asked_and_stopped(trained, tmp_path):
    (tmp_path / "run").symlink_to(trained)
    photo = check.sample_photo(BIN, tmp_path)
    assert check.ask_demo(BIN, tmp_path, photo) in FruitClassifier.from_pretrained(trained).labels


@pytest.mark.slow
def test_a_demo_is_served_on_a_free_port_until_it_is_stopped(tmp_path):
    with serve_demo([sys.executable, ROOT / "app.py"], folder=tmp_path) as server:
        assert httpx.get(f"{server.url}health").json()["status"] == "ok"
    assert server.process.returncode == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url)


@pytest.mark.slow
def test_a_demo_that_does_not_start_fails_the_check(tmp_path):
    with (
        pytest.raises(SystemExit, match=r"the demo did not start \(exit code 2\)"),
        serve_demo([BIN / "hffruits", "demo", "run"], folder=tmp_path),  # without a model
    ):
        pass


def test_a_new_build_replaces_builds_and_nothing_else(tmp_path):
    builds = [tmp_path / "hffruits-0.1.0.tar.gz", tmp_path / "hffruits-0.1.0-py3-none-any.whl"]
    mine = tmp_path / "thesis.txt"
    for file in [*builds, mine]:
        file.write_text("content")
    with pytest.raises(SystemExit, match=r"holds thesis\.txt, no build of hffruits"):
        check.build(tmp_path)
    assert all(file.exists() for file in [*builds, mine])
    mine.unlink()
    check.remove_builds(tmp_path)
    assert not list(tmp_path.iterdir())
    check.remove_builds(tmp_path / "new")


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
                check.ask(url, tmp_path / "photo.jpg")
        finally:
            server.terminate()
