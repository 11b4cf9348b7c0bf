"""What the tabs of the demo share: a visitor's files opened, and errors told in a line."""

import html
from pathlib import Path

import gradio as gr
from PIL import Image

from hffruits.errors import InputError
from hffruits.predict import FruitClassifier, Prediction
from hffruits.uploads import Upload, open_upload, shown_name

UNKNOWN = '<div class="unknown"><h2>Not a fruit I know</h2><p>The nearest that I do:</p></div>'


def visitor_error(message: str) -> gr.Error:
    """An error that a visitor reads; gradio shows it as HTML, and logs no traceback."""
    return gr.Error(html.escape(message, quote=False), print_exception=False)


def open_sent(picture: dict | None) -> Image.Image:
    """The picture that a visitor sent; tells why, but no path, if it can't be read."""
    if not isinstance(picture, dict) or not picture.get("path"):
        raise _unreadable("no file was sent")
    try:
        return open_upload(Path(picture["path"]))
    except InputError as error:
        raise _unreadable(str(error)) from error


def sent_files(files: list[dict] | None) -> list[Upload]:
    """The files that a visitor sent, with the names that they had there."""
    return [
        Upload(shown_name(one.get("orig_name") or Path(one["path"]).name), Path(one["path"]))
        for one in files or []
        if isinstance(one, dict) and one.get("path")
    ]


def name_picture(
    fruits: FruitClassifier, picture: Image.Image, top_k: int
) -> tuple[dict[str, float], str, Prediction]:
    """What `gr.Label` shows, what stands above it, and the prediction itself."""
    found = fruits.predict(picture, top_k=top_k)
    return dict(found.top), "" if found.known else UNKNOWN, found


def _unreadable(reason: str) -> gr.Error:
    remedy = "Try another one, as JPEG, PNG or WebP."
    return visitor_error(f"This picture can't be read: {reason}. {remedy}")
