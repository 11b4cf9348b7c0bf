"""Screenshots of the reports and the demo in docs/, from two trained models, with Chromium.

    python docs/screenshots.py --data_dir produce --model runs/balanced --other runs/fast \\
        --learner runs/sample

`--model` and `--other` need evaluations on the same photos. `--learner` is taught a kind of
`--data_dir` that it doesn't have. Takes two minutes on 2 CPU cores.
"""

import argparse
import io
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright

import hffruits
from hffruits.data.images import list_images

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path.append(str(ROOT / "scripts"))
from demo_server import Server, serve_demo  # noqa: E402

BACKGROUND = (255, 252, 244)
SHORTEN_PATHS = r"""() => {
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const text = texts.currentNode;
        text.data = text.data.replace(/(^| )\/\S+\/(?=\S)/g, "$1");
    }
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", type=Path, required=True, help="folder with train and val")
    parser.add_argument("--model", type=Path, required=True, help="folder of the main model")
    parser.add_argument("--other", type=Path, required=True, help="folder to compare it with")
    parser.add_argument("--learner", type=Path, required=True, help="folder of the one to teach")
    parser.add_argument("--new", default="Pineapple", help="a kind that --learner doesn't have")
    args = parser.parse_args()
    expect.set_options(timeout=120_000)  # ms
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        browser = launch_chromium(playwright)
        shoot_reports(browser, args, folder)
        shoot_demo(browser, args, folder)


def launch_chromium(playwright: Playwright) -> Browser:
    """The system's own: playwright's would have to be downloaded."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    return playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])


def shoot_reports(browser: Browser, args: argparse.Namespace, folder: Path) -> None:
    shoot_two_parts(browser, args.model / "report.html", DOCS / "report.png", "#confusion")
    compared = hffruits.compare(args.other, args.model, output_dir=folder / "comparison")
    shoot_two_parts(browser, compared.report, DOCS / "comparison.png", "#photos")
    data = folder / "produce"  # without the test split
    data.mkdir()
    for split in ("train", "val"):
        (data / split).symlink_to((args.data_dir / split).resolve())
    explored = hffruits.explore(data, output_dir=folder / "exploration")
    page = open_report(browser, explored.report, width=1200, height=1320)
    save_small(page.screenshot(), DOCS / "explore.png")


def open_report(browser: Browser, report: Path, *, width: int, height: int) -> Page:
    """A report, with the names of folders in place of their whole paths on this machine."""
    page = browser.new_page(viewport={"width": width, "height": height}, reduced_motion="reduce")
    page.goto(report.resolve().as_uri())
    page.evaluate(SHORTEN_PATHS)
    return page


def shoot_two_parts(browser: Browser, report: Path, output: Path, anchor: str) -> None:
    """The top of a report, and beside it the part that begins at an anchor."""
    page = open_report(browser, report, width=1000, height=1240)
    parts = [page.screenshot()]
    page.evaluate("anchor => document.querySelector(anchor).scrollIntoView()", anchor)
    page.wait_for_timeout(500)  # ms, for images that are drawn when they are seen
    parts.append(page.screenshot())
    save_small(beside([make_smaller(part, width=700) for part in parts], gap=0), output)


def shoot_demo(browser: Browser, args: argparse.Namespace, folder: Path) -> None:
    photos = list_images(args.data_dir / "val")
    fruits = hffruits.FruitClassifier.from_pretrained(args.model)
    found = fruits.predict(photos_of("Watermelon", args.data_dir / "val"))
    melon = Path(next(each.path for each in found if each.known and each.label == "Watermelon"))
    batch = [*photos[:: len(photos) // 11][:11], folder / "broken.jpg"]
    batch[-1].write_bytes(b"no image")
    lesson = photos_of(args.new, args.data_dir / "train")[:6]
    with demo_of(args.model, folder) as (url, _), demo_of(args.learner, folder) as (learner, _):
        page = open_demo(browser, url, width=1280)
        predict(page, melon)
        save_small(page.screenshot(full_page=True), DOCS / "demo.png")
        page = open_demo(browser, url, width=1280)
        predict_batch(page, batch)
        save_small(page.screenshot(full_page=True), DOCS / "demo-batch.png")
        page = open_demo(browser, learner, width=1280)
        teach(page, args.new, lesson)
        page.locator("#save").click()
        expect(page.get_by_text("Saved as")).to_be_visible()
        save_small(page.screenshot(full_page=True), DOCS / "demo-teach.png")
        shots = [
            (f"{url}?__theme=light", partial(predict, photo=melon)),
            (f"{url}?__theme=light", partial(predict_batch, photos=batch)),
            (f"{learner}?__theme=dark", partial(teach, name=args.new, photos=lesson)),
            (f"{url}?__theme=dark", partial(correct, photo=melon)),
        ]
        save_small(beside(shoot_phone(browser, shots)), DOCS / "demo-phone.png")


def photos_of(label: str, folder: Path) -> list[Path]:
    return [path for path in list_images(folder) if path.parent.name == label]


def demo_of(model: Path, folder: Path) -> AbstractContextManager[Server]:
    command = [sys.executable, ROOT / "app.py", "--model", model.resolve()]
    return serve_demo(command, folder=folder)


def shoot_phone(browser: Browser, shots: list[tuple[str, Callable[[Page], None]]]) -> list[bytes]:
    parts = []
    for url, act in shots:
        page = open_demo(browser, url, width=390)
        act(page)
        page.evaluate("window.scrollTo(0, 0)")
        parts.append(make_smaller(page.screenshot(), width=260))
    return parts


def open_demo(browser: Browser, url: str, *, width: int) -> Page:
    height = 1365 if width < 500 else 800
    page = browser.new_page(viewport={"width": width, "height": height}, reduced_motion="reduce")
    page.goto(url)
    return page


def predict(page: Page, photo: Path) -> None:
    page.locator("#photo input[type=file]").set_input_files(photo)
    expect(page.get_by_test_id("label-output-value")).to_be_visible()


def correct(page: Page, photo: Path) -> None:
    predict(page, photo)
    page.locator("#wrong").click()
    expect(page.locator("#send")).to_be_visible()


def predict_batch(page: Page, photos: list[Path]) -> None:
    page.get_by_role("tab", name="Batch").click()
    page.locator("#files input[type=file]").set_input_files(photos)
    expect(page.locator("#files tr.file")).to_have_count(len(photos))
    page.locator("#start").click()
    expect(page.locator("#gallery img")).to_have_count(len(photos) - 1)


def teach(page: Page, name: str, photos: list[Path]) -> None:
    """Teaches all but the last photo, and tries that one."""
    page.get_by_role("tab", name="Teach").click()
    page.locator("#name textarea, #name input").fill(name)
    page.locator("#photos input[type=file]").first.set_input_files(photos[:-1])
    expect(page.locator("#photos .grid-container img")).to_have_count(len(photos) - 1)
    page.locator("#teach").click()
    expect(page.get_by_text(f"Learned {name} from")).to_be_visible()
    page.locator("#trial-photo input[type=file]").set_input_files(photos[-1])
    expect(page.locator("#trial-prediction dl").first).to_contain_text(name)


def beside(shots: list[bytes], gap: int = 20) -> bytes:
    """PNGs of equal height, from left to right."""
    images = [Image.open(io.BytesIO(shot)).convert("RGB") for shot in shots]
    width = sum(image.width for image in images) + gap * (len(images) - 1)
    whole = Image.new("RGB", (width, max(image.height for image in images)), BACKGROUND)
    left = 0
    for image in images:
        whole.paste(image, (left, 0))
        left += image.width + gap
    return to_png(whole)


def make_smaller(shot: bytes, width: int) -> bytes:
    image = Image.open(io.BytesIO(shot))
    return to_png(image.resize((width, width * image.height // image.width)))


def to_png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def save_small(shot: bytes, output: Path) -> None:
    """With a palette of 256 colours: a third of the size."""
    Image.open(io.BytesIO(shot)).convert("RGB").quantize(256).save(output, optimize=True)


if __name__ == "__main__":
    main()
