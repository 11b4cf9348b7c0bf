"""What the tabs of the demo share: a visitor's files opened, and errors in one line.

They take payloads as visitors send them (`preprocess=False`), of which gradio has checked little.
What gives files is shown and hidden with the column around it: a component whose own properties
change is a new one in that visitor's session, and the guard doesn't know its files.
"""

import html
import time
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import BlockFunction
from gradio.utils import get_upload_folder
from PIL import Image

from hffruits.core.errors import InputError
from hffruits.demo.uploads import NOT_SENT, Upload, open_upload, shown_name
from hffruits.inference.classifier import FruitClassifier

WRONG_FORM = "Invalid request. For other clients, see Use via API in the page's footer."
UNKNOWN = '<div class="unknown"><h2>Unknown fruit</h2><p>Most similar classes:</p></div>'


def visitor_error(message: str) -> gr.Error:
    """An error that a visitor reads; gradio shows it as HTML, and logs no traceback."""
    return gr.Error(html.escape(message, quote=False), print_exception=False)


class Page(gr.Blocks):
    """Blocks that refuse, in one line, a payload of another form than their inputs'.

    By itself gradio logs a traceback for each number that stands where a file belongs.
    """

    async def preprocess_data(
        self, block_fn: BlockFunction, inputs: list[Any], *arguments: Any, **options: Any
    ) -> list[Any]:
        try:
            values = await super().preprocess_data(block_fn, inputs, *arguments, **options)
        except ValueError as error:  # pydantic's are, too
            raise visitor_error(WRONG_FORM) from error
        for block, value in zip(block_fn.inputs, values, strict=True):
            if isinstance(block, gr.Dataset) and value is None:  # no example's number
                raise visitor_error(WRONG_FORM)
        return values


def with_local_example(block: gr.Image | gr.File) -> gr.Image | gr.File:
    """The same input; on the API page its example is a file of the reader's, not one elsewhere."""
    photo = {"path": "photo.jpg", "url": "photo.jpg", "meta": {"_type": "gradio.FileData"}}
    example = photo if isinstance(block, gr.Image) else [photo]
    # not in a subclass: gradio writes a stub beside the file of each subclass of its components
    block.example_payload = lambda: example
    return block


def problem(message: str) -> str:
    """What is wrong, as HTML, for a line of the page."""
    return f'<p class="problem" role="alert">{html.escape(message, quote=False)}</p>'


def upload_folder() -> Path:
    """The folder that everything lies in which visitors may name."""
    return Path(get_upload_folder())


def open_image(sent: Any, max_pixels: int) -> Image.Image:
    """The image of a payload. Raises `InputError` with a reason, which names no path."""
    path = sent.get("path") if isinstance(sent, dict) else None
    if not isinstance(path, str):
        raise InputError(NOT_SENT)
    return open_upload(path, upload_folder(), max_pixels=max_pixels)


def open_sent(sent: Any, max_pixels: int) -> Image.Image:
    """As `open_image`, with an error for the visitor."""
    try:
        return open_image(sent, max_pixels)
    except InputError as error:
        remedy = "Try another one, as JPEG, PNG or WebP."
        raise visitor_error(f"This photo can't be read: {error}. {remedy}") from error


def sent_files(files: list[dict] | None) -> list[Upload]:
    """The files that a visitor sent, with the names that they had there."""
    return [
        Upload(shown_name(one.get("orig_name") or Path(one["path"]).name), Path(one["path"]))
        for one in files or []
        if isinstance(one, dict) and one.get("path")
    ]


def name_image(
    fruits: FruitClassifier, image: Image.Image, top_k: int
) -> tuple[dict[str, float], str, str]:
    """What `gr.Label` shows, what stands above it, and how long it took, below it."""
    started = time.perf_counter()
    found = fruits.predict(image, top_k=top_k)
    seconds = time.perf_counter() - started
    took = f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
    device = "the CPU" if fruits.device.type == "cpu" else "an accelerator"
    note = f'<p class="took">Predicted in {took} on {device}</p>'
    return dict(found.top), "" if found.known else UNKNOWN, note
