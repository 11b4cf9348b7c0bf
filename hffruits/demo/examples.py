"""The example photos of the Recognise tab: of the model's own data, each with its true class.

They are the model's `examples`; else photos below the folder that the user named as its data, of
those that it was not trained on; else those of the sample set, if it has all of its classes. The
bundled ImageNet model has photos of those of its classes that the sample set has. Never of others.
"""

import html
import io
from collections.abc import Container, Sequence
from pathlib import Path
from typing import NamedTuple

import gradio as gr
from gradio.data_classes import FileData
from gradio.processing_utils import move_files_to_cache, save_bytes_to_cache
from PIL import Image

from hffruits.core.html import thumbnail_uri
from hffruits.demo.class_photos import listed_photos, sample_photos
from hffruits.demo.widgets import WRONG_FORM, visitor_error
from hffruits.inference.classifier import FruitClassifier
from hffruits.models.examples import COUNT, MAX_SHOWN_PIXELS, Example, small_jpeg, spread

THUMBNAIL = 200  # pixels
# Only a number leaves the browser; what it stands for, the server knows.
_CHOOSE = """
element.addEventListener("click", event => {
    const chosen = event.target.closest("button[data-number]");
    if (chosen) trigger("click", {number: Number(chosen.dataset.number)});
});
"""


class ShownExample(NamedTuple):
    """An example as every visitor gets it."""

    label: str
    jpeg: bytes


def find_examples(
    fruits: FruitClassifier, artifact: Path | None, data_dir: Path | None
) -> list[ShownExample]:
    """What there is to show; photos as JPEGs that are new, small and without metadata."""
    shown = []
    for label, photo in fruits.examples or _other_photos(fruits.labels, artifact, data_dir):
        try:
            content = small_jpeg(photo, max_pixels=MAX_SHOWN_PIXELS)
            shown.append(ShownExample(label, content))
        except OSError:  # gone, or none
            continue
    return shown


def _other_photos(labels: list[str], artifact: Path | None, data_dir: Path | None) -> list[Example]:
    found = listed_photos(labels, artifact, data_dir, "test")
    found = found or listed_photos(labels, artifact, data_dir, "validation")
    found = found or sample_photos(labels, bundled=artifact is None)
    return [Example(label, found[label]) for label in spread(sorted(found), COUNT)]


def examples_strip(
    examples: Sequence[ShownExample], photo: gr.Image, *, taught: Container[str]
) -> None:
    """Build it, inside a tab: a click on a photo puts it into `photo`."""
    files = [_keep(example.jpeg, number, photo) for number, example in enumerate(examples, 1)]

    def show_example(event: gr.EventData) -> dict:
        sent = event._data
        number = sent.get("number") if isinstance(sent, dict) else None
        if not isinstance(number, int) or not 0 <= number < len(files):
            raise visitor_error(WRONG_FORM)
        return files[number]

    buttons = "".join(
        _button(number, example, is_taught=example.label in taught)
        for number, example in enumerate(examples)
    )
    strip = gr.HTML(
        f"<h2>No photo at hand? Try one of these</h2><div>{buttons}</div>",
        js_on_load=_CHOOSE,
        apply_default_css=False,
        elem_id="examples",
    )
    strip.click(
        show_example,
        *(None, photo),
        api_visibility="private",
        postprocess=False,
        queue=False,
        show_progress="hidden",
    )


def _button(number: int, example: ShownExample, *, is_taught: bool) -> str:
    label = html.escape(example.label)
    with Image.open(io.BytesIO(example.jpeg)) as image:
        source = thumbnail_uri(image, THUMBNAIL)
    caption = f"{label} (taught)" if is_taught else label
    return (
        f'<button type="button" data-number="{number}" aria-label="Try a photo: {caption}">'
        f'<img src="{source}" alt="{label}"><span>{caption}</span></button>'
    )


def _keep(content: bytes, number: int, photo: gr.Image) -> dict:
    """A file that the page may name for as long as it is served."""
    name = f"example-{number}.jpg"
    path = save_bytes_to_cache(content, name, photo.GRADIO_CACHE)
    file = FileData(path=path, orig_name=name, mime_type="image/jpeg").model_dump()
    return move_files_to_cache(file, photo, postprocess=True, keep_in_cache=True)
