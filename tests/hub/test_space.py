"""A Space from a pushed model: its files, tested before the push, predict as the model does."""

import errno
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import huggingface_hub
import pytest
import yaml
from support import warm
from support.drawing import draw_fruit
from support.hub_server import TOKEN, Hub, serve_hub
from support.pages import CHROMIUM, FLAGS

from hffruits import InputError
from hffruits.hub.push_model import push
from hffruits.hub.space import make_space, pinned
from hffruits.hub.space_check import check_space, install, started
from hffruits.inference.classifier import FruitClassifier


@pytest.fixture(scope="module")
def site() -> Iterator[Hub]:
    with serve_hub({}) as hub:
        yield hub


@pytest.fixture(scope="module")
def space(site: Hub, trained: Path, tmp_path_factory) -> Path:
    """The files that a hub holds of a Space, after `hffruits push` and `hffruits space`."""
    home = tmp_path_factory.mktemp("home")
    for words in (
        ["push", trained, "fruits"],
        ["space", "user/fruits", "fruit-demo", "--check", "none", "--title", "Fruit: which?"],
    ):
        words = ["hffruits", *words]
        done = warm.run(words, env=site.environment(home), cwd=home, folder=home)
        assert done.returncode == 0, done.stderr
        assert TOKEN not in done.stdout + done.stderr
    folder = tmp_path_factory.mktemp("space")
    for name, content in site.repos["space", "user/fruit-demo"].files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.slow
def test_the_files_are_a_space_of_one_commit_with_pinned_packages(space, site):
    head, _, text = (space / "README.md").read_text().removeprefix("---\n").partition("\n---\n")
    front = yaml.safe_load(head)
    assert front["sdk"] == "gradio" and front["app_file"] == "app.py"
    assert front["sdk_version"] == importlib.metadata.version("gradio")
    assert front["title"] == "Fruit: which?" and front["models"] == ["user/fruits"]
    assert len(front["short_description"]) <= 60  # the Hub's limit
    commit = site.repos["model", "user/fruits"].sha
    assert commit in (space / "app.py").read_text() and commit[:7] in text
    lines = (space / "requirements.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    assert dict(line.split("==") for line in lines) == pinned("hffruits")
    assert (space / "Dockerfile").read_text().startswith("# For self-hosting")
    assert not list(space.rglob("*.pyc"))
    for file in space.rglob("*"):
        assert file.is_dir() or TOKEN.encode() not in file.read_bytes()


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH")
def test_the_space_says_in_a_browser_what_the_model_says(
    space, site, trained, tmp_path, monkeypatch
):
    """The whole way: trained, pushed, loaded by id from an empty cache, served from the files."""
    from playwright import sync_api

    sync_api.expect.set_options(timeout=60_000)  # ms; the other tests may have the processor
    photo = tmp_path / "photo.png"
    draw_fruit("Banana", seed=5, size=320).save(photo)
    environment = site.environment(tmp_path / "home", token=None)
    fruits = FruitClassifier.from_pretrained(trained)
    expected = fruits.predict(photo)
    python, log = Path(sys.executable), tmp_path / "log.txt"
    with (
        started(python, space, environment, log=log) as url,
        sync_api.sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        page = browser.new_page()
        page.goto(url)
        link = page.get_by_role("link", name="user/fruits")
        sync_api.expect(link).to_have_attribute("href", f"{site.url}/user/fruits")
        examples = page.get_by_role("button", name="Try a photo: ")  # of the model's own data
        sync_api.expect(examples).to_have_count(len(fruits.labels))
        page.locator("#photo input[type=file]").set_input_files(photo)
        answer = page.get_by_test_id("label-output-value")
        sync_api.expect(answer).to_have_text(expected.label)
        row = page.locator("#prediction dl").first.inner_text().split("\n")
        assert abs(int(row[-1].removesuffix("%")) - 100 * expected.score) <= 0.51
        page.get_by_role("tab", name="Model").click()
        sync_api.expect(page.get_by_text("top-5 accuracy")).to_be_visible()  # its metrics came too
        browser.close()
        # the check that comes before a push finds the same
        monkeypatch.setattr("hffruits.hub.space_check.started", lambda *_, **__: nullcontext(url))
        (tmp_path / "check").mkdir()
        check_space(space, tmp_path / "check", fruits, way="quick")


def test_a_space_needs_a_model_of_the_hub_and_a_place(local_hub, trained, tmp_path):
    for options, message in (
        ({"model": str(trained), "repo_id": "demo"}, "not a Hub model"),
        ({"model": "user/nothing", "repo_id": "demo"}, "no such Hub model"),
        ({"model": "user/nothing"}, "name the Space"),
        ({"model": "user/nothing", "repo_id": "demo", "check": "half"}, "check=half: unknown"),
        ({"model": "user/nothing", "output_dir": tmp_path}, "already exists"),
    ):
        with pytest.raises(InputError, match=message) as raised:
            make_space(**options)
        assert "\n" not in str(raised.value)
    assert not local_hub.repos


def test_a_space_that_does_not_start_is_an_error_and_not_pushed(
    local_hub, trained, monkeypatch, tmp_path
):
    (tmp_path / "app.py").write_text("import sys\nsys.exit('starting\\nuser/fruits: not there')")

    def start_broken(python, folder, environment, *, log):
        return started(python, tmp_path, environment, log=log)

    push(trained, "fruits")
    monkeypatch.setattr("hffruits.hub.space_check.started", start_broken)
    with pytest.raises(InputError, match=r"the Space doesn't start: user/fruits: not") as raised:
        make_space("user/fruits", "demo", check="quick")
    assert "\n" not in str(raised.value) and ("space", "user/demo") not in local_hub.repos


def test_a_space_that_answers_otherwise_or_not_at_all_is_not_pushed(
    local_hub, trained, monkeypatch, tmp_path
):
    push(trained, "fruits")
    seen = {}

    @contextmanager
    def serving(python, folder, environment, *, log):
        seen.update(environment)
        yield "http://127.0.0.1:9"

    monkeypatch.setattr("hffruits.hub.space_check.started", serving)
    with pytest.raises(InputError, match="the Space doesn't answer: "):
        make_space("user/fruits", "demo", check="quick")
    monkeypatch.setattr("hffruits.hub.space_check._ask", lambda url, photo: "Durian")
    with pytest.raises(InputError, match="says Durian where the model says"):
        make_space("user/fruits", "demo", check="quick")
    assert ("space", "user/demo") not in local_hub.repos
    # a token that `hf auth login` has saved lies in a home that the Space doesn't see
    monkeypatch.delenv("HF_TOKEN")
    (tmp_path / "token").write_text(TOKEN)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    seen.clear()
    with pytest.raises(InputError, match="says Durian"):
        make_space("user/fruits", "demo", check="quick")
    assert seen["HF_TOKEN"] == TOKEN


def test_a_private_model_is_reported(local_hub, trained, tmp_path):
    push(trained, "fruits", private=True)
    made = make_space("user/fruits", output_dir=tmp_path / "files", check="none")
    assert made.private_model and made.pushed is None
    assert (tmp_path / "files" / "hffruits" / "core" / "templates" / "page.css").is_file()


def test_a_space_holds_no_photos_and_its_code_does_without_them(local_hub, trained, tmp_path):
    push(trained, "fruits")
    make_space("user/fruits", output_dir=tmp_path / "files", check="none")
    assert not list((tmp_path / "files").rglob("*.jpg"))
    code = "from hffruits.data import samples; print(samples.__file__, samples.example_photos())"
    environment = {key: text for key, text in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "files",
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"{tmp_path}/files/hffruits/data/samples.py {{}}\n", done.stderr


def test_of_a_space_that_cannot_be_written_no_half_stays(local_hub, trained, tmp_path, monkeypatch):
    def break_off(source: Path | str, target: Path | str, **options) -> None:
        if Path(target).name == "app.py" and Path(target).is_relative_to(tmp_path / "out"):
            raise OSError(errno.ENOSPC, "No space left on device")
        copy(source, target, **options)

    push(trained, "fruits")
    copy = shutil.copyfile
    monkeypatch.setattr("hffruits.hub.space.shutil.copyfile", break_off)
    with pytest.raises(InputError, match=r"files: can't be written \(No space left"):
        make_space("user/fruits", output_dir=tmp_path / "out" / "files", check="none")
    assert not list(tmp_path.glob("out/*"))


def test_the_same_space_again_makes_no_commit_and_old_code_goes(local_hub, trained):
    push(trained, "fruits")
    make_space("user/fruits", "demo", check="none")
    repo = local_hub.repos["space", "user/demo"]
    head = repo.sha
    assert not make_space("user/fruits", "demo", check="none").pushed.changed
    assert repo.sha == head and "hffruits/cli/main.py" in repo.files


def test_a_title_that_would_break_the_card_is_refused_and_any_other_is_the_spaces_title(
    local_hub, trained, tmp_path
):
    push(trained, "fruits")
    for title in ("a\nsdk: docker", "x" * 81, "<script>"):
        with pytest.raises(InputError, match="title="):
            make_space("user/fruits", output_dir=tmp_path / "files", check="none", title=title)
    for number, title in enumerate(["No", "123", ",x", "Which: this?", "O'Fruit & Co"]):
        folder = tmp_path / str(number)
        make_space("user/fruits", output_dir=folder, check="none", title=title)
        head = (folder / "README.md").read_text().split("---\n")[1]
        assert yaml.safe_load(head)["title"] == title


@pytest.mark.slow
def test_the_clean_environment_has_what_is_required_and_no_more(tmp_path, monkeypatch):
    (tmp_path / "requirements.txt").write_text("")
    python = install(tmp_path, tmp_path / "venv")
    done = subprocess.run([python, "-Ic", "import hffruits"], capture_output=True)
    assert done.returncode == 1 and b"No module named 'hffruits'" in done.stderr
    (tmp_path / "requirements.txt").write_text("no-such-package-of-ours==1.0\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("UV_NO_INDEX", "1")
    with pytest.raises(InputError, match=r"requirements\.txt: can't be installed") as raised:
        install(tmp_path, tmp_path / "venv-2")
    assert "\n" not in str(raised.value)
