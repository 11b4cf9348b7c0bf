"""HTML pages in a headless Chromium, or parsed into tags; hostile names for injection tests."""

import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --use-fake-ui-for-media-stream "
    "--use-fake-device-for-media-stream"  # a camera
)


HOSTILE = [
    "<script>hacked = 1</script>",
    "</script><script>hacked = 1</script>",
    "</style></title><img src=x onerror='hacked = 1'>",
    "\"' onmouseover='hacked = 1' x=\"",
    "{{ 7 * 7 }} & &amp; 梨 Äpfel\u2028",
    "https://example.org/a.js <base href=//example.org>",
]


class Tags(HTMLParser):
    """Start tags with their attributes, and the text outside scripts and styles."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem is None:
            self.text += data


def in_browser(views: list[tuple[int, str]]) -> Callable:
    """Runs a test in each view of the page."""

    def mark(test: Callable) -> Callable:
        test = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH")(test)
        test = pytest.mark.parametrize("width, scheme", views)(test)
        return pytest.mark.browser(pytest.mark.slow(test))

    return mark


def row_ends(page, selector: str) -> set[int]:
    """Where the rows of a grid's tiles end, from its right edge: {0} where none has a gap."""
    return set(
        page.evaluate(
            """(selector) => {
              const grid = document.querySelector(selector).getBoundingClientRect(), ends = {};
              for (const tile of document.querySelectorAll(selector + " > div")) {
                const box = tile.getBoundingClientRect();
                ends[Math.round(box.top)] = Math.round(grid.right - box.right);
              }
              return Object.values(ends);
            }""",
            selector,
        )
    )


@pytest.fixture(scope="module")
def browser() -> Iterator:
    reason = "the browser tests need playwright"
    sync_api = pytest.importorskip("playwright.sync_api", reason=reason)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser) -> Iterator[Callable]:
    """Opens a file; fails its test if the page logs anything or asks for another file."""
    contexts, complaints = [], []

    def open_page(file: Path, width: int, scheme: str):
        context = browser.new_context(
            viewport={"width": width, "height": 850}, color_scheme=scheme, reduced_motion="reduce"
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda request: (
                request.url.startswith((file.as_uri(), "data:")) or complaints.append(request.url)
            ),
        )
        page.goto(file.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
