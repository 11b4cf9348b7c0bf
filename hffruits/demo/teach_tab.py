"""The Teach tab adds a class, from a name and a few photos, to this visitor's model."""

import html
import re
import time
import unicodedata
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from PIL import Image

from hffruits.core.counts import counted
from hffruits.core.errors import InputError
from hffruits.demo.predict_tab import photo_input, prediction_label
from hffruits.demo.server import RETENTION_SECONDS
from hffruits.demo.uploads import UPLOAD_SUFFIXES
from hffruits.demo.widgets import name_image, open_image, problem
from hffruits.inference.classifier import FruitClassifier
from hffruits.inference.few_shot import save_taught, teach

MAX_PHOTOS = 30  # of one fruit
MAX_FRUITS = 20  # that one visitor adds
MAX_SAVED = 100  # folders below the one that is written to
MAX_SAVED_BYTES = 2 * 10**9  # of all of them
LONG_SIDE = 1024  # pixels; all that the model ever sees of a photo is smaller
NOTHING = "Nothing taught yet. What you teach is visible only to you, until you save it."
SAVING = (
    "A saved model keeps one photo of each new fruit: its demo shows them as examples, and "
    "`hffruits push` publishes them."
)

# Gradio's own scroll_to_output leaves a line that begins in view where it is.
_SHOW_ANSWER = """() => {
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const how = {block: "center", behavior: calm ? "auto" : "smooth"};
    requestAnimationFrame(() => document.getElementById("said")?.scrollIntoView(how));
}"""
UNTEACHABLE = (
    "This model can't be taught: it has no prototypes of its classes. Train one of your own first, "
    "with `hffruits train YOUR_FOLDER`."
)


class Taught(NamedTuple):
    """What one visitor's model has learned here."""

    fruits: FruitClassifier
    names: tuple[str, ...]
    saved: Path | None = None


def teach_tab(fruits: FruitClassifier, *, top_k: int, folder: Path | None, max_pixels: int) -> None:
    """Build the tab, inside `gr.Tab`. Without a `folder` to save below, saving is off."""

    def learn(
        taught: Taught | None, name: str | None, photos: list[dict] | None
    ) -> tuple[Taught | None, Any, Any, Any, dict, str]:
        try:
            kept, about = _learn(taught or Taught(fruits, ()), name, photos, max_pixels)
        except InputError as error:  # what was filled in stays
            return taught, gr.skip(), gr.skip(), gr.skip(), gr.skip(), problem(_sentence(error))
        done = f'<p class="learned" role="status">{html.escape(about)}</p>'
        return kept, _describe(kept), "", None, gr.update(interactive=True), done

    def try_it(
        taught: Taught | None, image: dict | None
    ) -> tuple[dict[str, float] | None, str, str]:
        if image is None:
            return None, "", ""
        try:
            opened = open_image(image, max_pixels)
        except InputError as error:
            return None, problem(f"This photo can't be read: {error}. Try another one."), ""
        return name_image(taught.fruits if taught else fruits, opened, top_k)

    def save(taught: Taught | None) -> tuple[Taught | None, str]:
        if folder is None:
            return taught, _describe(taught, problem("Saving is off on this server."))
        if taught is None:
            return taught, _describe(taught, problem("Teach it a fruit first."))
        try:
            written = save_below(folder, taught)
        except InputError as error:
            said = _sentence(error).replace(f"{folder}", folder.name)
            return taught, _describe(taught, problem(said))
        shown = html.escape(f"{Path(folder.name, written.name)}")
        kept = taught._replace(saved=written)
        return kept, _describe(kept, f"<p>Saved as <code>{shown}</code>.</p>")

    def forget() -> tuple[None, str, dict, str]:
        return None, _describe(None), gr.update(interactive=False), ""

    state = gr.State(None, time_to_live=RETENTION_SECONDS, delete_callback=lambda taught: None)
    with gr.Row(equal_height=False):
        with gr.Column(min_width=280, elem_id="lesson"):
            name, photos, learned, said = _lesson_inputs(teachable=fruits.prototypes is not None)
        with gr.Column(min_width=280, elem_id="trial", elem_classes="predictions"):
            gr.HTML('<h2 class="step"><b>2</b> Try it at once</h2>')
            photo = photo_input("trial-photo", height=300)
            verdict = gr.HTML(elem_classes="verdict")
            prediction = prediction_label(top_k, "trial-prediction")
            took = gr.HTML()
    with gr.Column(elem_id="keep"):
        summary = gr.HTML(_describe(None), elem_id="taught")
        with gr.Row():
            saved = gr.Button(
                "Save as a model", interactive=False, visible=folder is not None, elem_id="save"
            )
            forgotten = gr.Button("Start over", variant="secondary", elem_id="forget")
        hint = SAVING if folder else "Saving is off on this server, since it is open to others."
        gr.Markdown(hint, elem_classes="hint", elem_id="saving")
    private = {"api_visibility": "private", "preprocess": False}
    shows = [prediction, verdict, took]
    learned.click(
        learn,
        *([state, name, photos], [state, summary, name, photos, saved, said]),
        concurrency_id="teach",
        concurrency_limit=1,
        show_progress_on=said,
        **private,
    ).then(None, None, None, js=_SHOW_ANSWER, api_visibility="private").success(
        try_it, [state, photo], shows, **private
    )
    photo.change(try_it, [state, photo], shows, **private)
    saved.click(save, state, [state, summary], concurrency_id="teach", **private)
    forgotten.click(forget, None, [state, summary, saved, said], queue=False, **private).success(
        try_it, [state, photo], shows, **private
    )


def _lesson_inputs(*, teachable: bool) -> tuple[gr.Textbox, gr.Gallery, gr.Button, gr.HTML]:
    """The name, the photos, the button that teaches them, and the line that answers it."""
    gr.HTML('<h2 class="step"><b>1</b> Show it a new fruit</h2>')
    name = gr.Textbox(label="Its name", placeholder="Dragon fruit", max_length=60, elem_id="name")
    photos = gr.Gallery(
        label="A few photos",
        file_types=["image", *sorted(UPLOAD_SUFFIXES)],  # and no video from the camera
        sources=["upload", "webcam", "clipboard"],
        type="filepath",
        interactive=True,
        columns=4,
        height=270,
        object_fit="cover",
        buttons=[],
        elem_id="photos",
        elem_classes="drop",
    )
    learned = gr.Button("Teach it", variant="primary", interactive=teachable, elem_id="teach")
    said = gr.HTML(elem_id="said")
    hint = "Two photos are enough to begin with; five to ten, from different sides, are better."
    hint = hint if teachable else UNTEACHABLE
    gr.Markdown(hint, elem_classes="hint")
    return name, photos, learned, said


def save_below(folder: Path, taught: Taught) -> Path:
    """Write the model to `folder/taught-NAME`, with a number where that is taken; only once.

    Raises `InputError` where it can't be written, and when there are `MAX_SAVED` already, or
    `MAX_SAVED_BYTES` of them.
    """
    if taught.saved and taught.saved.exists():
        return taught.saved
    count = len(list(folder.glob("taught-*")))
    files = (file for file in folder.glob("taught-*/*") if file.is_file())
    size = sum(file.stat().st_size for file in files)
    if count >= MAX_SAVED or size >= MAX_SAVED_BYTES:
        raise InputError(f"{count} models are saved here already. Remove some.")
    plain = f"taught-{slug(taught.names[-1])}"
    names = [plain, *(f"{plain}-{number}" for number in range(2, MAX_SAVED + 2))]
    target = next(folder / name for name in names if not (folder / name).exists())
    save_taught(taught.fruits, target)
    return target


def slug(name: str) -> str:
    """The letters and digits of a name, as a folder can be called anywhere."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:40].strip("-") or "fruit"


def _learn(
    before: Taught, name: str | None, photos: list[dict] | None, max_pixels: int
) -> tuple[Taught, str]:
    """What the model has learned then, and how. Raises `InputError` for what can't be taught."""
    if len(before.names) >= MAX_FRUITS:
        raise InputError(f"The limit is {MAX_FRUITS} fruits. Save them, or start over.")
    images, unread = _open_photos(photos, max_pixels)
    if not images:
        raise InputError(unread or "Choose two or more photos first.")
    started = time.perf_counter()
    try:
        after = teach(before.fruits, name if isinstance(name, str) else "", images)
    except InputError as error:
        raise InputError(f"{_sentence(error)} {unread}".strip()) from error
    seconds = time.perf_counter() - started
    name = after.labels[-1]
    learned = f"Learned {name} from {counted(len(images), 'photo')} in {seconds:.1f} seconds."
    about = f"{learned} {unread}"
    return Taught(after, (*before.names, name)), about.strip()


def _open_photos(photos: list[dict] | None, max_pixels: int) -> tuple[list[Image.Image], str]:
    """The photos that can be read, small, and a sentence on the others."""
    sent = [one.get("image") for one in photos or []]  # a video has none
    if len(sent) > MAX_PHOTOS:
        raise InputError(f"{len(sent)} photos: the limit is {MAX_PHOTOS} at a time.")
    images, reasons = [], []
    for one in sent:
        try:
            image = open_image(one, max_pixels)
        except InputError as error:
            reasons.append(str(error))
            continue
        image.thumbnail((LONG_SIDE, LONG_SIDE))
        images.append(image)
    if not reasons:
        return images, ""
    return images, f"{len(reasons)} could not be read: {reasons[0]}."


def _sentence(error: InputError) -> str:
    text = str(error)
    return text[:1].upper() + text[1:]


def _describe(taught: Taught | None, about: str = "") -> str:
    """What the model has learned here, as HTML; `about` is HTML."""
    if taught is None:
        return about or f"<p>{NOTHING}</p>"
    counts = taught.fruits.config.taught
    chips = "".join(
        f"<li>{html.escape(name)} <b>{counted(counts[name], 'photo')}</b></li>"
        for name in taught.names
    )
    total = counted(len(taught.fruits.labels), "class", "classes")
    classes = f"It has {total} now, these from you:"
    return f'{about}<p>{classes}</p><ul class="kinds">{chips}</ul>'
