"""The demo in a real browser, started as users start it: `python app.py`."""

import csv
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image
from support.drawing import draw_fruit
from support.hostile_files import image_bytes, zipped
from support.pages import CHROMIUM
from support.runs import save_untrained
from support.warm import Warm

from hffruits.demo.fallback_model import pretrained_produce_folder
from hffruits.inference.classifier import FruitClassifier

sync_api = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright")
sync_api.expect.set_options(timeout=60_000)  # ms; the other tests may have the processor

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH"),
]

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder, which the demo runs in, so that it serves the bundled model."""
    return tmp_path_factory.mktemp("empty")


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with _serving(folder, start=_python) as url:
        yield url


def _python(words: list, *, output: int, **options) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, *words], stdout=output, stderr=output, **options)


@pytest.fixture(scope="module")
def teachable(folder: Path) -> Iterator[str]:
    """A demo of a model that can be taught: it has prototypes."""
    save_untrained(folder / "models" / "sample", ["Apple", "Kiwi", "Pear"])
    with _serving(folder, "--model", "models/sample") as url:
        yield url


@contextmanager
def _serving(folder: Path, *options: str, start: Callable = Warm) -> Iterator[str]:
    """`python app.py`, and at its end no traceback in its log."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / f"{port}.txt"
    with log.open("wb") as output:
        server = start(
            [ROOT / "app.py", *options],
            cwd=folder,
            env=os.environ | {"GRADIO_SERVER_PORT": str(port)},
            output=output.fileno(),
        )
    try:
        deadline = time.monotonic() + 180
        while not _answers(port):
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=120)
    assert "Traceback" not in log.read_text()


@pytest.fixture(scope="module")
def context(browser: sync_api.Browser) -> Iterator[sync_api.BrowserContext]:
    """One visitor, whose browser fetches and compiles the page's scripts once."""
    size = {"width": 1280, "height": 900}
    context = browser.new_context(viewport=size, accept_downloads=True, reduced_motion="reduce")
    yield context
    context.close()


@pytest.fixture
def page(context: sync_api.BrowserContext) -> Iterator[sync_api.Page]:
    """A page that fails its test if it asks another host for anything, or for a file in vain."""
    page = context.new_page()
    hosts, answers = set(), []
    page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
    page.on("response", lambda answer: answers.append((answer.status, answer.url)))
    yield page
    page.close()
    assert hosts - {None} == {"127.0.0.1"}  # None: data: and blob: addresses
    assert not [url for status, url in answers if status >= 400 and "/file=" in url]


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _upload(page: sync_api.Page, path: Path) -> None:
    page.locator("#photo input[type=file]").set_input_files(path)


def _expect_loaded(images: sync_api.Locator) -> None:
    """As a broken image is visible, too."""
    for image in images.all():
        sync_api.expect(image).not_to_have_js_property("naturalWidth", 0)


def _prediction(page: sync_api.Page) -> sync_api.Locator:
    return page.get_by_test_id("label-output-value")


def test_an_uploaded_photo_gets_the_answer_of_the_classifier(
    url: str, page: sync_api.Page, tmp_path: Path
) -> None:
    path = tmp_path / "photo.png"
    draw_fruit("Strawberry", seed=4, size=320).save(path)
    expected = FruitClassifier.from_pretrained(pretrained_produce_folder()).predict(path)
    page.goto(url)
    sync_api.expect(page.get_by_text("Nothing is trained yet")).to_be_visible()
    _upload(page, path)
    sync_api.expect(_prediction(page)).to_have_text(expected.label)
    shown = page.locator("#prediction dl").all_inner_texts()
    rows = [tuple(text.split("\n")) for text in shown]
    assert [row[0] for row in rows] == [label for label, _ in expected.top]
    for row, (_, score) in zip(rows, expected.top, strict=True):
        assert abs(int(row[-1].removesuffix("%")) - 100 * score) <= 0.51
    page.get_by_label("Remove Image").click()
    sync_api.expect(_prediction(page)).to_have_count(0)


def test_a_click_shows_the_heatmap_and_another_photo_hides_it(
    url: str, page: sync_api.Page, tmp_path: Path
) -> None:
    path = tmp_path / "photo.png"
    draw_fruit("Strawberry", seed=4, size=320).save(path)
    page.goto(url)
    sync_api.expect(page.locator("#explain")).to_be_hidden()
    _upload(page, path)
    sync_api.expect(_prediction(page)).to_be_visible()
    for _ in range(2):
        page.locator("#explain").click()
        sync_api.expect(page.locator("#heat img")).to_be_visible()
        _expect_loaded(page.locator("#heat img"))
        page.get_by_label("Remove Image").first.click()
        sync_api.expect(page.locator("#heat img")).to_have_count(0)
        sync_api.expect(page.locator("#heat")).to_be_hidden()
        _upload(page, path)


def test_an_example_is_answered_at_a_click(url: str, page: sync_api.Page) -> None:
    page.goto(url)
    page.get_by_role("button", name="Try a photo: Banana").click()
    sync_api.expect(_prediction(page)).to_have_text("Banana")
    sync_api.expect(page.locator("#took")).to_contain_text(re.compile(r"in \d+ ms|in \d+\.\d s"))


def test_each_example_is_reached_by_keyboard_and_named_after_its_class(
    url: str, page: sync_api.Page
) -> None:
    page.goto(url)
    buttons = page.locator("#examples button")
    sync_api.expect(buttons.first).to_be_visible()
    captions = buttons.all_inner_texts()
    assert len(captions) >= 5 and len(set(captions)) == len(captions)
    for button, caption in zip(buttons.all(), captions, strict=True):
        assert button.get_attribute("aria-label") == f"Try a photo: {caption}"
        assert button.locator("img").get_attribute("alt") == caption
    buttons.last.focus()
    page.keyboard.press("Enter")
    sync_api.expect(page.locator("#photo img")).to_be_visible()


def test_a_broken_photo_is_refused_and_the_next_one_answered(
    url: str, page: sync_api.Page, tmp_path: Path
) -> None:
    broken, good = tmp_path / "broken.jpg", tmp_path / "good.jpg"
    broken.write_text("no image")
    draw_fruit("Lemon", seed=1, size=320).save(good)
    page.goto(url)
    _upload(page, broken)
    sync_api.expect(page.get_by_text("This photo can't be read")).to_be_visible()
    sync_api.expect(page.locator("#photo img")).to_have_count(0)
    _upload(page, good)
    sync_api.expect(_prediction(page)).to_have_text("Lemon")


def test_a_phone_needs_no_sideways_scrolling(url: str, page: sync_api.Page, tmp_path: Path) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(url)
    page.locator("#examples button").nth(1).click()
    sync_api.expect(_prediction(page)).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.fixture(params=[1280, 390], ids=["desktop", "phone"])
def opened(request: pytest.FixtureRequest, url: str, page: sync_api.Page) -> sync_api.Page:
    """The demo at two widths, at which no test may leave it wider than its screen."""
    page.set_viewport_size({"width": request.param, "height": 844})
    page.goto(url)
    yield page
    assert page.evaluate("document.documentElement.scrollWidth") <= request.param


@pytest.fixture
def lesson(opened: sync_api.Page, teachable: str) -> sync_api.Page:
    """The Teach tab of a model that can be taught, at two widths."""
    opened.goto(teachable)
    _open_tab(opened, "Teach")
    return opened


def _open_tab(page: sync_api.Page, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def test_a_wrong_prediction_is_corrected_and_stored(
    opened: sync_api.Page, folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "photo.png"
    draw_fruit("Lemon", seed=opened.viewport_size["width"], size=320).save(path)
    sync_api.expect(opened.locator("#feedback")).to_be_hidden()
    _upload(opened, path)
    opened.locator("#wrong").click()
    opened.locator("#kind input").click()
    opened.get_by_role("option", name="Orange", exact=True).click()
    opened.locator("#send").click()
    sync_api.expect(opened.get_by_text("Thank you! Your feedback is saved.")).to_be_visible()
    lines = (folder / "feedback" / "feedback.jsonl").read_text().splitlines()
    said = json.loads(lines[-1])
    assert said["label"] == "Orange"
    with Image.open(folder / "feedback" / said["file"]) as kept:
        assert kept.format == "JPEG" and kept.size == (320, 320)


def test_a_confirmed_prediction_is_stored_on_a_click(opened: sync_api.Page, folder: Path) -> None:
    opened.locator("#examples button").nth(opened.viewport_size["width"] % 7 % 6).click()
    sync_api.expect(_prediction(opened)).to_be_visible()
    opened.locator("#right").click()
    sync_api.expect(opened.get_by_text("Thank you! Your feedback is saved.")).to_be_visible()
    said = json.loads((folder / "feedback" / "feedback.jsonl").read_text().splitlines()[-1])
    assert said["label"] == (said["predicted"] if said["known"] else None)


def test_a_batch_gives_a_table_thumbnails_and_a_csv(opened: sync_api.Page, tmp_path: Path) -> None:
    files = {
        "pear.jpg": image_bytes(),
        "broken.jpg": b"no image",
        "fruits.zip": zipped({"banana.png": image_bytes("PNG"), "notes.txt": b"x"}),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    _open_tab(opened, "Batch")
    sync_api.expect(opened.locator("#csv")).to_be_hidden()
    opened.locator("#files input[type=file]").set_input_files([tmp_path / name for name in files])
    sync_api.expect(opened.locator("#files").get_by_text("zip")).not_to_have_count(0)
    opened.locator("#start").click()
    sync_api.expect(opened.locator("#summary")).to_contain_text("1 unreadable")
    sync_api.expect(opened.locator("#gallery img")).to_have_count(2)
    _expect_loaded(opened.locator("#gallery img"))
    sync_api.expect(opened.locator("#table")).to_contain_text("banana.png")
    problem = opened.locator("#table tr", has_text="broken.jpg").locator("td").last
    sync_api.expect(problem).to_contain_text("unreadable: ")
    cut = "cells => cells.filter(cell => cell.scrollWidth > cell.clientWidth + 1).length"
    for cells in ("#table td", "#files .filename", "#gallery .caption-label"):
        assert opened.locator(cells).evaluate_all(cut) == 0, cells
    with opened.expect_download() as download:
        opened.locator("#csv").click()
    rows = list(csv.DictReader(Path(download.value.path()).read_text("utf-8-sig").splitlines()))
    assert {row["file"] for row in rows} == {"pear.jpg", "broken.jpg", "banana.png"}
    draw_fruit("Lemon", seed=9, size=120).save(tmp_path / "lemon.jpg")
    opened.locator("#files input[type=file]").set_input_files(tmp_path / "lemon.jpg")
    sync_api.expect(opened.locator("#files").get_by_text("lemon")).not_to_have_count(0)
    opened.locator("#start").click()  # again, while results are shown
    sync_api.expect(opened.locator("#table")).to_contain_text("lemon.jpg")
    sync_api.expect(opened.locator("#gallery .caption-label").last).to_be_visible()
    _expect_loaded(opened.locator("#gallery img"))
    with opened.expect_download() as download:
        opened.locator("#csv").click()
    assert "lemon.jpg" in Path(download.value.path()).read_text("utf-8-sig")


def test_the_boxes_say_what_to_drop_there(lesson: sync_api.Page) -> None:
    sync_api.expect(lesson.locator("#photos")).to_contain_text("Drop photos here")
    _open_tab(lesson, "Batch")
    sync_api.expect(lesson.locator("#files")).to_contain_text("Drop photos or a zip here")


def test_a_fruit_is_taught_tried_and_saved(
    lesson: sync_api.Page, folder: Path, tmp_path: Path
) -> None:
    paths = [tmp_path / f"{seed}.jpg" for seed in range(6)]
    for seed, path in enumerate(paths):
        draw_fruit("Dragon-Fruit", seed=seed, size=240).save(path)
    name = f"Pitaya {lesson.viewport_size['width']}"
    sync_api.expect(lesson.get_by_text("Nothing taught yet")).to_be_visible()
    sync_api.expect(lesson.locator("#save")).to_be_disabled()
    lesson.locator("#name textarea, #name input").fill(name)
    lesson.locator("#photos input[type=file]").first.set_input_files(paths[:5])
    sync_api.expect(lesson.locator("#photos .grid-container img")).to_have_count(5)
    lesson.locator("#teach").click()
    sync_api.expect(lesson.get_by_text(f"Learned {name} from 5 photos")).to_be_in_viewport()
    sync_api.expect(lesson.locator("#taught")).to_contain_text(f"{name} 5 photos")
    lesson.locator("#trial-photo input[type=file]").set_input_files(paths[5])
    sync_api.expect(lesson.locator("#trial-prediction dl").first).to_contain_text(name)
    lesson.locator("#save").click()
    saved = f"taught-pitaya-{lesson.viewport_size['width']}"
    sync_api.expect(lesson.get_by_text(f"runs/{saved}")).to_be_visible()
    assert name in FruitClassifier.from_pretrained(folder / "runs" / saved).labels
    lesson.locator("#forget").click()
    sync_api.expect(lesson.get_by_text("Nothing taught yet")).to_be_visible()


def test_what_one_visitor_taught_another_does_not_see(
    teachable: str, browser: sync_api.Browser, page: sync_api.Page, tmp_path: Path
) -> None:
    paths = [tmp_path / f"{seed}.jpg" for seed in range(3)]
    for seed, path in enumerate(paths):
        draw_fruit("Dragon-Fruit", seed=seed, size=240).save(path)
    other = browser.new_page()
    for visitor in (page, other):
        visitor.goto(teachable)
        _open_tab(visitor, "Teach")
    page.locator("#name textarea, #name input").fill("Pitaya")
    page.locator("#photos input[type=file]").first.set_input_files(paths[:2])
    sync_api.expect(page.locator("#photos .grid-container img")).to_have_count(2)
    page.locator("#teach").click()
    sync_api.expect(page.get_by_text("Learned Pitaya from 2 photos")).to_be_visible()
    for visitor in (page, other):
        visitor.locator("#trial-photo input[type=file]").set_input_files(paths[2])
        sync_api.expect(visitor.locator("#trial-prediction dl").first).to_be_visible()
    assert "Pitaya" in page.locator("#trial-prediction").inner_text()
    assert "Pitaya" not in other.locator("#trial-prediction").inner_text()
    other.close()


def test_what_is_wrong_with_a_lesson_stands_below_the_button_and_nothing_is_cleared(
    lesson: sync_api.Page, tmp_path: Path
) -> None:
    paths = [tmp_path / f"{seed}.jpg" for seed in range(2)]
    for seed, path in enumerate(paths):
        draw_fruit("Dragon-Fruit", seed=seed, size=240).save(path)
    name, said = lesson.locator("#name textarea, #name input"), lesson.locator("#said")
    lesson.locator("#teach").click()
    sync_api.expect(said).to_contain_text("Choose two or more photos first.")
    lesson.locator("#photos input[type=file]").first.set_input_files(paths[:1])
    sync_api.expect(lesson.locator("#photos .grid-container img")).to_have_count(1)
    for wrong, answer in {"": "has no name", "kiwi": "has Kiwi already", "Fig": "needs 2"}.items():
        name.fill(wrong)
        lesson.locator("#teach").click()
        sync_api.expect(said).to_contain_text(answer)
        sync_api.expect(said).to_be_in_viewport()
        sync_api.expect(name).to_have_value(wrong)
        sync_api.expect(lesson.locator("#photos .grid-container img")).to_have_count(1)
        assert lesson.get_by_test_id("toast-body").count() == 0
        assert lesson.get_by_text("Error", exact=True).filter(visible=True).count() == 0


def test_photos_to_teach_come_from_the_camera_too(lesson: sync_api.Page) -> None:
    photos = lesson.locator("#photos")
    sync_api.expect(photos.get_by_label("Capture from camera")).to_be_visible()
    assert photos.get_by_label("Record video").count() == 0
    photos.get_by_label("Capture from camera").click()
    photos.get_by_text("Click to Access Webcam").click()
    started = "document.querySelector('#photos video')?.videoWidth > 0"
    lesson.wait_for_function(started, timeout=60_000)
    photos.get_by_label("capture photo").click()
    sync_api.expect(photos.locator(".grid-container img")).to_have_count(1)


def test_no_image_is_loaded_from_elsewhere(url: str, page: sync_api.Page) -> None:
    page.goto(url)
    blocked = page.evaluate(
        """() => new Promise(done => {
            document.addEventListener("securitypolicyviolation", event => done(event.blockedURI));
            document.body.append(Object.assign(new Image(), {src: "http://127.0.0.1:9/a.png"}));
        })"""
    )
    assert blocked == "http://127.0.0.1:9/a.png"


def test_a_model_that_cannot_be_taught_says_so_at_once(opened: sync_api.Page) -> None:
    _open_tab(opened, "Teach")
    sync_api.expect(opened.get_by_text("This model can't be taught")).to_be_visible()
    sync_api.expect(opened.locator("#teach")).to_be_disabled()


def test_the_model_shows_its_kinds_with_an_image_each(opened: sync_api.Page) -> None:
    _open_tab(opened, "Model")
    sync_api.expect(opened.get_by_text("not been evaluated")).to_be_visible()
    kinds = FruitClassifier.from_pretrained(pretrained_produce_folder()).labels
    sync_api.expect(opened.locator(".classes figure")).to_have_count(len(kinds))
    sync_api.expect(opened.locator(".classes img").first).to_be_visible()
    opened.locator("#card button").first.click()
    sync_api.expect(opened.get_by_text("This model has no card.")).to_be_visible()


def test_the_tabs_are_reached_by_keyboard_with_a_ring_around_the_one(
    url: str, page: sync_api.Page
) -> None:
    page.goto(url)
    sync_api.expect(page.get_by_role("tab", name="Batch")).to_be_visible()
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent").strip() == "Batch":
            break
    style = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(style) == "solid"
    page.keyboard.press("Enter")
    sync_api.expect(page.locator("#start")).to_be_visible()
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "start":
            break
    assert page.evaluate("document.activeElement.id") == "start"


def test_the_dark_page_is_dark_and_its_text_light(url: str, page: sync_api.Page) -> None:
    page.goto(f"{url}?__theme=dark")
    sync_api.expect(page.locator("h1")).to_be_visible()
    heading = Image.open(io.BytesIO(page.locator("h1").screenshot())).convert("L")
    darkest, lightest = heading.getextrema()
    assert heading.getpixel((0, 0)) == darkest < 50
    assert lightest > 200
