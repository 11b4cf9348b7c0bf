"""The Model tab shows the model: its metrics, its card, its report and its classes.

Reads the artifact folder when the tab is first opened: only files that lie in it, and photos only
below a folder that the user named, since a stranger's model may name any. Photos leave as
thumbnails.
"""

import html
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr

from hffruits.core.files import file_below
from hffruits.core.html import thumbnail_uri
from hffruits.data.images import open_small
from hffruits.demo.class_photos import listed_photos, read_text_below, sample_photos
from hffruits.hub.redaction import redaction_of
from hffruits.inference.classifier import FruitClassifier
from hffruits.models.artifact import CARD, METRICS, REPORT

THUMBNAIL = 120  # pixels
MAX_SAMPLES = 300  # classes that get an image


def model_tab(
    fruits: FruitClassifier, tab: gr.Tab, *, artifact: Path | None, data_dir: Path | None
) -> None:
    """Build the tab, inside `gr.Tab`. `artifact` is the folder that training wrote, if any."""

    @cache
    def describe() -> tuple[str, str, str]:
        gallery = class_gallery(fruits, artifact, data_dir)
        return _figures(artifact), model_card(artifact), gallery

    figures = gr.HTML('<p class="loading">Reading the model ...</p>', elem_id="figures")
    if artifact and file_below(artifact, REPORT):
        shown = gr.Button("Open its report", elem_id="open-report")
        frame = gr.HTML(elem_id="report")
        shown.click(
            lambda: _framed(artifact), None, frame, api_visibility="private", show_progress="hidden"
        )
    gr.HTML(f'<h2 class="step">The {len(fruits.labels)} classes</h2>')
    classes = gr.HTML(elem_id="classes")
    with gr.Accordion("Model card", open=False, elem_id="card"):
        card = gr.Markdown(sanitize_html=True, latex_delimiters=[])
    tab.select(
        describe,
        *(None, [figures, card, classes]),
        api_visibility="private",
        show_progress="hidden",
    )


def model_card(artifact: Path | None) -> str:
    """The card without its metadata and its images, which would come from elsewhere."""
    text = redaction_of(artifact).in_text(read_text_below(artifact, CARD)) if artifact else ""
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    return re.sub(r"!\[([^\]]*)\]\([^)]*\)", r"\1", text) or "This model has no card."


def class_gallery(
    fruits: FruitClassifier, artifact: Path | None, data_dir: Path | None = None
) -> str:
    """Each class as a figure: a photo that it was trained on, else an example, else a letter."""
    photos = class_photos(fruits, artifact, data_dir)
    figures = []
    for index, label in enumerate(sorted(fruits.labels)):
        few = index < MAX_SAMPLES
        source = _photo_uri(photos[label]) if few and label in photos else None
        image = f'<img src="{source}" alt="" loading="lazy">' if source else None
        image = image or f'<span class="letter">{html.escape(label[:1])}</span>'
        figures.append(f"<figure>{image}<figcaption>{html.escape(label)}</figcaption></figure>")
    return f'<div class="classes">{"".join(figures)}</div>'


def class_photos(
    fruits: FruitClassifier, artifact: Path | None, data_dir: Path | None
) -> dict[str, Path | bytes]:
    """What there is of each class."""
    samples = sample_photos(fruits.labels, bundled=artifact is None)
    trained_on = listed_photos(fruits.labels, artifact, data_dir, "train")
    return samples | dict(fruits.examples) | trained_on


def _photo_uri(photo: Path | bytes) -> str | None:
    try:
        return thumbnail_uri(open_small(photo, THUMBNAIL)[0], THUMBNAIL)
    except OSError:
        return None


def _framed(artifact: Path) -> str:
    """The report in a frame of its own origin: its scripts can reach nothing of this page."""
    page = html.escape(redaction_of(artifact).in_page(read_text_below(artifact, REPORT)))
    return f'<iframe title="Report" sandbox="allow-scripts" srcdoc="{page}"></iframe>'


def _figures(artifact: Path | None) -> str:
    """The best-measured split's metrics as tiles."""
    try:
        metrics = json.loads(read_text_below(artifact, METRICS) if artifact else "{}")
    except ValueError:
        metrics = {}
    splits = metrics if isinstance(metrics, dict) else {}
    measured = {name: splits.get(name) for name in ("test", "validation")}
    name = next((name for name, figures in measured.items() if _is_measured(figures)), None)
    if name is None:
        return "<p>This model has not been evaluated yet.</p>"
    tiles = [_tile(title, _percent(measured[name].get(key))) for key, title in _TILES.items()]
    tiles.append(_tile(f"{name} photos", f"{measured[name]['images']:,}"))
    return f'<dl class="tiles">{"".join(tiles)}</dl>'


_TILES = {
    "accuracy": "accuracy", "top5_accuracy": "top-5 accuracy", "macro_f1": "macro F1",
    "ece": "calibration error",
}  # fmt: skip


def _is_measured(figures: Any) -> bool:
    """Whether they have the form that this package writes; a stranger's file may have any."""
    return isinstance(figures, dict) and isinstance(figures.get("images"), int)


def _tile(title: str, value: str) -> str:
    return f"<div><dt>{html.escape(title)}</dt><dd>{html.escape(value)}</dd></div>"


def _percent(value: Any) -> str:
    return f"{100 * value:.1f} %" if isinstance(value, float | int) else "-"
