"""The demo in a real browser, started as users start it: `python app.py`."""

import io
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image

from hffruits.drawing import draw_fruit
from hffruits.models import pretrained_produce_folder
from hffruits.predict import FruitClassifier

sync_api = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH"),
]

ROOT = Path(__file__).resolve().parents[1]
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`python app.py` in an empty folder, so that it serves the bundled model."""
    folder = tmp_path_factory.mktemp("empty")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "log.txt"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, ROOT / "app.py"],
            cwd=folder,
            env=os.environ | {"GRADIO_SERVER_PORT": str(port)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + 90
        while not _answers(port):
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.terminate()  # an interrupt is ignored where the tests run in the background
        server.wait(timeout=30)
    assert "Traceback" not in log.read_text()


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield browser
        browser.close()


@pytest.fixture
def page(browser: sync_api.Browser) -> Iterator[sync_api.Page]:
    """A page that fails its test if it asks any other host for anything."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    hosts = set()
    page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
    yield page
    page.context.close()
    assert hosts - {None} == {"127.0.0.1"}  # None: data: and blob: addresses


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _upload(page: sync_api.Page, path: Path) -> None:
    page.locator("#picture input[type=file]").set_input_files(path)


def _answer(page: sync_api.Page) -> sync_api.Locator:
    return page.get_by_test_id("label-output-value")


def test_an_uploaded_picture_gets_the_answer_of_the_classifier(
    url: str, page: sync_api.Page, tmp_path: Path
) -> None:
    path = tmp_path / "picture.png"
    draw_fruit("Strawberry", seed=4, size=320).save(path)
    expected = FruitClassifier.from_pretrained(pretrained_produce_folder()).predict(path)
    page.goto(url)
    sync_api.expect(page.get_by_text("Nothing is trained yet")).to_be_visible()
    _upload(page, path)
    sync_api.expect(_answer(page)).to_have_text(expected.label)
    shown = page.locator("#answer dl").all_inner_texts()
    rows = [tuple(text.split("\n")) for text in shown]
    assert [row[0] for row in rows] == [label for label, _ in expected.top]
    for row, (_, score) in zip(rows, expected.top, strict=True):
        assert abs(int(row[-1].removesuffix("%")) - 100 * score) <= 0.51
    page.get_by_label("Remove Image").click()
    sync_api.expect(_answer(page)).to_have_count(0)


def test_a_click_shows_where_it_looked_and_another_picture_hides_it(
    url: str, page: sync_api.Page, tmp_path: Path
) -> None:
    path = tmp_path / "picture.png"
    draw_fruit("Strawberry", seed=4, size=320).save(path)
    page.goto(url)
    sync_api.expect(page.locator("#look")).to_be_hidden()
    _upload(page, path)
    sync_api.expect(_answer(page)).to_be_visible()
    page.locator("#look").click()
    sync_api.expect(page.locator("#heat img")).to_be_visible()
    page.get_by_label("Remove Image").first.click()
    sync_api.expect(page.locator("#heat img")).to_have_count(0)


def test_an_example_is_answered_at_a_click(url: str, page: sync_api.Page) -> None:
    page.goto(url)
    page.locator("#examples button").first.click()
    sync_api.expect(_answer(page)).to_have_text("Banana")


def test_a_broken_picture_is_told_and_the_next_one_answered(
    url: str, page: sync_api.Page, tmp_path: Path
) -> None:
    broken, good = tmp_path / "broken.jpg", tmp_path / "good.jpg"
    broken.write_text("no picture")
    draw_fruit("Lemon", seed=1, size=320).save(good)
    page.goto(url)
    _upload(page, broken)
    sync_api.expect(page.get_by_text("This picture can't be read")).to_be_visible()
    sync_api.expect(page.locator("#picture img")).to_have_count(0)
    _upload(page, good)
    sync_api.expect(_answer(page)).to_have_text("Lemon")


def test_a_phone_needs_no_sideways_scrolling(url: str, page: sync_api.Page, tmp_path: Path) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(url)
    page.locator("#examples button").nth(1).click()
    sync_api.expect(_answer(page)).to_be_visible()
    page.get_by_text("kinds it knows").click()
    sync_api.expect(page.locator(".kinds")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_dark_page_is_dark_and_its_text_light(url: str, page: sync_api.Page) -> None:
    page.goto(f"{url}?__theme=dark")
    sync_api.expect(page.locator("h1")).to_be_visible()
    heading = Image.open(io.BytesIO(page.locator("h1").screenshot())).convert("L")
    darkest, lightest = heading.getextrema()
    assert heading.getpixel((0, 0)) == darkest < 50
    assert lightest > 200
