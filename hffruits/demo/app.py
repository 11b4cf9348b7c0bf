"""The demo, a web page of a trained model: it classifies photos, and learns new fruits.

Serves one model to visitors and to `gradio_client`, and needs no network. Each tab is a file:
`predict_tab`, `batch_tab`, `teach_tab`, `model_tab`. Leaves out training and accounts.
"""

import html
import io
import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from huggingface_hub import constants
from PIL import Image
from starlette.middleware import Middleware

from hffruits import __version__
from hffruits.core.counts import counted
from hffruits.core.errors import InputError
from hffruits.core.escaping import markdown_code
from hffruits.core.names import public_name
from hffruits.data.pixel_limit import MAX_PIXELS, check_max_pixels
from hffruits.demo.batch_tab import batch_tab
from hffruits.demo.examples import ShownExample, find_examples
from hffruits.demo.fallback_model import pretrained_produce_folder
from hffruits.demo.feedback import FeedbackBox
from hffruits.demo.link_preview import LinkPreview, PreviewMiddleware
from hffruits.demo.model_tab import model_tab
from hffruits.demo.port import choose_port
from hffruits.demo.predict_tab import predict_tab
from hffruits.demo.server import (
    RETENTION_SECONDS,
    Guard,
    announce,
    bound_statistics,
    health_route,
    is_private,
    is_shared,
    log_errors_in_a_line,
    read_auth,
    translate_launch_errors,
    wait_and_stop,
)
from hffruits.demo.teach_tab import teach_tab
from hffruits.demo.theme import CSS, HEADER, WORDS, fruit_theme
from hffruits.demo.upload_folder import UploadFolder, temporary_folder
from hffruits.demo.widgets import Page
from hffruits.inference.classifier import FruitClassifier
from hffruits.models.artifact import CONFIG, METRICS, WEIGHTS
from hffruits.models.examples import spread
from hffruits.models.fetching import fetched_id

logger = logging.getLogger(__name__)
TITLE = "What fruit is this?"
ARTIFACT = (CONFIG, WEIGHTS, METRICS)
QUEUE_SIZE = 32  # requests that wait; the next one is refused
MAX_SESSIONS = 64  # visitors whose taught models are remembered: a head and a config, some MB each


def newest_model(runs: Path = Path("runs")) -> Path | None:
    """The folder directly below `runs` whose weights were written last, of the complete ones."""
    complete = [
        folder for folder in runs.glob("*/") if all((folder / name).is_file() for name in ARTIFACT)
    ]
    written = {folder: (folder / WEIGHTS).stat().st_mtime_ns for folder in complete}
    return max(complete, key=written.__getitem__, default=None)


def open_model(
    name: str | None = None, *, revision: str | None = None
) -> tuple[FruitClassifier, str, Path | None]:
    """The model to serve, a sentence in Markdown that says which it is, and its folder.

    `name` is a folder or a Hub id; without it the newest trained model is taken, else the bundled
    ImageNet backbone, which has no folder to show. Raises `InputError` for a model that can't be
    loaded.
    """
    if name is not None and not name.strip():
        raise InputError("model: empty. Name a folder or a Hub id, or leave it out.")
    chosen = name or newest_model()
    source = chosen or pretrained_produce_folder()
    classifier = FruitClassifier.from_pretrained(source, revision=revision)
    classes = counted(len(classifier.labels), "class", "classes")
    if chosen:
        which = "" if name else ", the run that finished last"
        fetched = None if Path(chosen).expanduser().is_dir() else fetched_id(classifier.folder)
        if fetched:
            shown = f"[{markdown_code(str(chosen))}]({constants.ENDPOINT}/{fetched})"
        else:
            shown = markdown_code(public_name(chosen))
        about = f"Predictions come from {shown}{which}. It has {classes}."
        return classifier, about, classifier.folder
    about = (
        "Nothing is trained yet: predictions come from the bundled ImageNet model, which has only "
        f"the {classes} listed under Model. Train your own with `make train`, or with "
        "`hffruits train YOUR_FOLDER`."
    )
    return classifier, about, None


def build_demo(
    classifier: FruitClassifier,
    *,
    title: str = TITLE,
    about: str = "",
    examples: Sequence[ShownExample] = (),
    top_k: int = 5,
    artifact: Path | None = None,
    data_dir: Path | None = None,
    feedback_dir: Path | None = None,
    save_dir: Path | None = None,
    max_image_pixels: int = MAX_PIXELS,
    stopping: threading.Event | None = None,
) -> gr.Blocks:
    """The page. `about` is Markdown. Its theme is given to `launch`, see `launch_demo`.

    `examples` are what `find_examples` gives. `artifact` is the folder that the model came from;
    only photos below `data_dir` are shown as what it learned from. Without `feedback_dir` nobody is
    asked whether a prediction was right, and without `save_dir` nothing taught can be saved.
    """
    feedback = FeedbackBox(feedback_dir.expanduser()) if feedback_dir else None
    with Page(
        title=title, analytics_enabled=False, delete_cache=(RETENTION_SECONDS, RETENTION_SECONDS)
    ) as demo:
        gr.HTML(HEADER.format(title=html.escape(title)))
        gr.Markdown(about, latex_delimiters=[], elem_id="about")  # a name is no formula
        with gr.Tabs(elem_id="tabs", overflow_behavior="wrap"):
            with gr.Tab("Recognise", id="recognise"):
                options = {"examples": examples, "top_k": top_k, "feedback": feedback}
                predict_tab(classifier, **options, max_pixels=max_image_pixels)
            with gr.Tab("Batch", id="batch"):
                stopping = stopping or threading.Event()
                batch_tab(classifier, stopping=stopping, max_pixels=max_image_pixels)
            with gr.Tab("Teach", id="teach"):
                folder = save_dir and save_dir.expanduser()
                options = {"top_k": top_k, "folder": folder, "max_pixels": max_image_pixels}
                teach_tab(classifier, **options)
            with gr.Tab("Model", id="model") as tab:
                model_tab(classifier, tab, artifact=artifact, data_dir=data_dir)
    # one prediction at a time (GRADIO_DEFAULT_CONCURRENCY_LIMIT changes it), and a bounded queue
    return demo.queue(max_size=QUEUE_SIZE, api_open=False)


def launch_demo(
    model: str | None = None,
    *,
    revision: str | None = None,
    share: bool = False,
    port: int | None = None,
    open_browser: bool = False,
    auth: str | None = None,
    data_dir: Path | None = None,
    feedback_dir: Path | None = None,
    save_dir: Path | None = None,
    max_image_pixels: int = MAX_PIXELS,
    prevent_thread_lock: bool = False,
) -> gr.Blocks:
    """Open the model and serve its page until interrupted, or return with `prevent_thread_lock`.

    `port` is by default that of GRADIO_SERVER_PORT, else the first free one from 7860. Where there
    is a display, `open_browser` opens the page.
    `auth` is `user:password`, by default that of HFFRUITS_AUTH. A model's own examples, photos of
    its data, are shown to every visitor, with `share` too, and in the preview of links unless there
    is `auth`. Others are shown only from below `data_dir`: a model's own record may name any
    folder. Feedback goes to `feedback/`, and taught models below `runs/`; where others than this
    computer reach the server, only if given.
    Gradio's environment variables hold (GRADIO_SERVER_PORT, GRADIO_SHARE, ...), but there is no
    public link unless asked for. Raises `InputError` for a model that can't be loaded, a port that
    is taken, and a malformed `auth` or `max_image_pixels`.
    """
    login = read_auth(auth)
    check_max_pixels(max_image_pixels)
    port = choose_port(port)
    data_dir = data_dir and data_dir.expanduser()
    if data_dir and not data_dir.is_dir():
        raise InputError(f"data_dir={data_dir}: no such folder. Name the one it was trained on.")
    shared = is_shared(share)
    if is_private(shared):
        feedback_dir = feedback_dir or Path("feedback")
        save_dir = save_dir or Path("runs")
    classifier, about, folder = open_model(model, revision=revision)
    place = temporary_folder()
    bound_statistics()
    logging.getLogger("uvicorn.error").addFilter(log_errors_in_a_line)
    stopping = threading.Event()
    examples = find_examples(classifier, folder, data_dir)
    demo = build_demo(
        classifier,
        about=about,
        examples=examples,
        artifact=folder,
        data_dir=data_dir,
        feedback_dir=feedback_dir,
        save_dir=save_dir,
        max_image_pixels=max_image_pixels,
        stopping=stopping,
    )
    classes = counted(len(classifier.labels), "class", "classes")
    logger.info("Model     %s, %s", model or folder or "bundled", classes)
    uploads = UploadFolder(place)
    logger.info("Uploads   in %s, %.1f GB at most, for an hour", place, uploads.bound / 1e9)
    served = Path(model or folder or "bundled").name
    facts = {"model": served, "classes": len(classifier.labels), "version": __version__}
    preview = link_preview(classifier, [] if login else examples)
    middleware = [
        Middleware(Guard, demo=demo, folder=uploads),
        Middleware(PreviewMiddleware, demo=demo, preview=preview),
    ]
    routes = [health_route(facts), preview.route()]
    with translate_launch_errors(port):
        demo.launch(
            share=shared,  # never None, with which gradio may decide to share
            server_port=port,
            auth=login,
            app_kwargs={"routes": routes, "middleware": middleware},
            **_launch_options(),
        )
    announce(demo, shared=shared, open_browser=open_browser)
    if not prevent_thread_lock:
        wait_and_stop(demo, stopping)
    return demo


def _launch_options() -> dict[str, Any]:
    """Those of gradio's that are always the same."""
    return {
        "prevent_thread_lock": True,
        "quiet": True,  # its texts speak of arguments in Python
        "max_file_size": "100mb",  # a zip; a photo's own limit is in uploads.py
        "state_session_capacity": MAX_SESSIONS,
        "enable_monitoring": False,  # which anybody could read
        "footer_links": ["api", "gradio", "settings"],
        # else gradio keeps every visitor's photos in the browser
        "run_history": os.environ.get("GRADIO_RUN_HISTORY", "").lower() == "true",
        "theme": fruit_theme(),
        "css": CSS,
        "i18n": gr.I18n(en=WORDS),
    }


def link_preview(classifier: FruitClassifier, examples: Sequence[ShownExample]) -> LinkPreview:
    """What a link to the page shows elsewhere."""
    some = ", ".join(one.label for one in spread(examples, 3))
    kinds = f"{len(classifier.labels)} kinds of fruit and vegetable"
    description = f"Classifies photos of {kinds}{f' ({some}, ...)' if some else ''}, and says when "
    photos = [Image.open(io.BytesIO(example.jpeg)) for example in spread(examples, 4)]
    return LinkPreview(TITLE, f"{description}one is unknown.", photos)
