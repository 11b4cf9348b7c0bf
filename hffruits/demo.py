"""The web page of a trained model: a picture in, its name and the runners-up out.

Serves one model to visitors and to `gradio_client` (endpoint `/predict`), and needs no network.
Leaves out training, folders of pictures and accounts.
"""

import html
import os
from collections.abc import Sequence
from pathlib import Path

import gradio as gr
from PIL import Image

from hffruits.demo_look import CSS, HEADER, fruit_theme
from hffruits.drawing import FRUITS, draw_fruit
from hffruits.errors import InputError
from hffruits.images import open_rgb
from hffruits.models import pretrained_produce_folder
from hffruits.predict import FruitClassifier

TITLE = "What fruit is this?"
UNKNOWN = '<div class="unknown"><h2>Not a fruit I know</h2><p>The nearest that I do:</p></div>'
EXAMPLE_SEED = 70_000  # far from the seeds of the sample set, so that no model has learned these
ARTIFACT = ("config.json", "model.safetensors", "metrics.json")
HEAT_SIZE = 448  # pixels
KEPT_SECONDS = 3600  # how long the server keeps a visitor's picture


def newest_model(runs: Path = Path("runs")) -> Path | None:
    """The folder directly below `runs` whose weights were written last, of the complete ones."""
    complete = [
        folder for folder in runs.glob("*/") if all((folder / name).is_file() for name in ARTIFACT)
    ]
    written = {folder: (folder / "model.safetensors").stat().st_mtime_ns for folder in complete}
    return max(complete, key=written.__getitem__, default=None)


def open_model(name: str | None = None) -> tuple[FruitClassifier, str]:
    """The model to serve, and a sentence in Markdown that tells visitors which one it is.

    `name` is a folder or a Hub id; without it the newest trained model is taken, else the bundled
    ImageNet backbone. Raises `InputError` for a model that can't be loaded.
    """
    chosen = name or newest_model()
    classifier = FruitClassifier.from_pretrained(chosen or pretrained_produce_folder())
    kinds = len(classifier.labels)
    if name:
        return classifier, f"Answers come from `{name}`. It knows {kinds} kinds."
    if chosen:
        about = f"Answers come from `{chosen}`, the model trained last. It knows {kinds} kinds."
        return classifier, about
    return classifier, (
        "Nothing is trained yet: answers come from the bundled ImageNet model, and it knows only "
        f"the {kinds} kinds listed below. Train your own with `make train`, or with "
        "`hffruits train YOUR_FOLDER`."
    )


def draw_examples(labels: Sequence[str], count: int = 8) -> list[Image.Image]:
    """Drawn pictures of kinds that the model knows, or of any where it knows none of ours."""
    known = {_plain(label.rpartition("/")[-1]) for label in labels}
    names = [name for name in FRUITS if _plain(name) in known] or list(FRUITS)
    return [
        draw_fruit(names[i % len(names)], seed=EXAMPLE_SEED + i, size=384) for i in range(count)
    ]


def build_demo(
    classifier: FruitClassifier,
    *,
    title: str = TITLE,
    about: str = "",
    examples: Sequence[Image.Image] = (),
    top_k: int = 5,
) -> gr.Blocks:
    """The page. `about` is Markdown. Its look is given to `launch`, see `launch_demo`."""

    def predict(picture: dict | None) -> tuple[dict[str, float] | None, str]:
        """Name the fruit or vegetable in one picture.

        Parameters:
            picture: an image file: JPEG, PNG, WebP, GIF, TIFF, BMP or AVIF.
        Returns:
            answer: the likeliest kind, and it and the runners-up, in [0, 1], best first.
            verdict: empty, or that it is none of the kinds known; then those are the nearest.
        """
        if picture is None:
            return None, ""
        found = classifier.predict(_open(picture), top_k=top_k)
        return dict(found.top), "" if found.known else UNKNOWN

    def explain(picture: dict | None) -> Image.Image | None:
        """Show where the model looked to name the fruit in one picture.

        Parameters:
            picture: an image file, as for predict.
        Returns:
            what the model saw, the parts that spoke for its answer coloured, brightest where most.
        """
        if picture is None:
            return None
        try:
            return classifier.explain(_open(picture)).overlay(HEAT_SIZE)
        except InputError as error:
            raise gr.Error(html.escape(str(error)), print_exception=False) from error

    with gr.Blocks(
        title=title, analytics_enabled=False, delete_cache=(KEPT_SECONDS, KEPT_SECONDS)
    ) as demo:
        gr.HTML(HEADER.format(title=html.escape(title)))
        gr.Markdown(about, elem_id="about")
        with gr.Row(equal_height=True):
            picture = gr.Image(
                type="filepath",
                sources=["upload", "webcam", "clipboard"],
                placeholder="# Drop a photo here\nor click to choose one",
                height=400,
                show_label=False,
                buttons=["fullscreen"],
                elem_id="picture",
            )
            with gr.Column(elem_id="answers"):
                verdict = gr.HTML(elem_id="verdict")
                answer = gr.Label(num_top_classes=top_k, show_label=False, elem_id="answer")
                looked = gr.Button("Show where it looked", elem_id="look")
        heat = gr.Image(
            type="pil",
            format="jpeg",
            interactive=False,
            visible="hidden",
            height=400,
            label="What spoke for the answer: the brighter, the more",
            buttons=["fullscreen"],
            elem_id="heat",
        )
        if examples:
            gr.Examples(
                [[example] for example in examples],
                picture,
                label="No photo at hand? Try one of these",
                elem_id="examples",
                api_visibility="private",
            )
        with gr.Accordion(f"The {len(classifier.labels)} kinds it knows", open=False):
            chips = "".join(f"<li>{html.escape(label)}</li>" for label in sorted(classifier.labels))
            gr.HTML(f'<ul class="kinds">{chips}</ul>')
        # preprocess=False: gradio checks the upload's place, and open_rgb alone decodes it
        named = picture.change(
            predict, picture, [answer, verdict], api_name="predict", preprocess=False
        )
        named.failure(lambda: None, None, picture, api_visibility="private", queue=False)
        looked.click(explain, picture, heat, api_name="explain", preprocess=False).success(
            lambda shown: gr.Image(visible=shown is not None or "hidden"),
            *(heat, heat),
            api_visibility="private",
        )
        picture.change(
            lambda: gr.Image(None, visible="hidden"), None, heat, api_visibility="private"
        )
    # one prediction at a time (GRADIO_DEFAULT_CONCURRENCY_LIMIT changes it), and a bounded queue
    return demo.queue(max_size=32, api_open=False)


def launch_demo(
    model: str | None = None, *, share: bool = False, prevent_thread_lock: bool = False
) -> gr.Blocks:
    """Open the model and serve its page until interrupted; returns at once if told not to lock.

    Gradio's environment variables hold (GRADIO_SERVER_PORT, GRADIO_SERVER_NAME, ...). Raises
    `InputError` for a model that can't be loaded.
    """
    classifier, about = open_model(model)
    demo = build_demo(classifier, about=about, examples=draw_examples(classifier.labels))
    demo.launch(
        share=share or None,  # None leaves the choice to GRADIO_SHARE
        prevent_thread_lock=prevent_thread_lock,
        max_file_size="20mb",
        footer_links=["api", "gradio", "settings"],
        # else gradio keeps every visitor's pictures in the browser
        run_history=os.environ.get("GRADIO_RUN_HISTORY", "").lower() == "true",
        theme=fruit_theme(),
        css=CSS,
    )
    return demo


def _open(picture: dict) -> Image.Image:
    """The picture that a visitor sent; tells why, but no path, if it can't be read."""
    if not picture.get("path"):
        raise _visitor_error("no file was sent")
    try:
        return open_rgb(picture["path"])
    except OSError as error:
        raise _visitor_error(error.strerror or str(error)) from error


def _plain(name: str) -> str:
    return name.casefold().replace("-", " ").replace("_", " ")


def _visitor_error(reason: str) -> gr.Error:
    return gr.Error(
        f"This picture can't be read: {html.escape(reason, quote=False)}. "
        "Try another one, as JPEG, PNG or WebP.",
        print_exception=False,
    )
