"""The Recognise tab classifies one photo, shows a heatmap, and asks for feedback."""

from collections.abc import Sequence

import gradio as gr
from PIL import Image

from hffruits.core.errors import InputError
from hffruits.demo.examples import ShownExample, examples_strip
from hffruits.demo.feedback import FeedbackBox
from hffruits.demo.widgets import name_image, open_sent, visitor_error, with_local_example
from hffruits.inference.classifier import FruitClassifier

HEAT_SIZE = 448  # pixels
NO_CLASS = "None of these"


def predict_tab(
    fruits: FruitClassifier,
    *,
    examples: Sequence[ShownExample],
    top_k: int,
    feedback: FeedbackBox | None,
    max_pixels: int,
) -> None:
    """Build the tab, inside `gr.Tab`. Without `feedback` it doesn't ask."""

    def predict(image: dict | None) -> tuple[dict[str, float] | None, str, str]:
        """Name the fruit or vegetable in one photo.

        Parameters:
            image: an image file: JPEG, PNG, WebP, HEIC, AVIF, GIF, TIFF or BMP, up to 50 MB.
        Returns:
            prediction: the predicted class and the runners-up with scores in [0, 1], best first.
            verdict: empty, or that the fruit is unknown; then those are the most similar classes.
        """
        if image is None:
            return None, "", ""
        return name_image(fruits, open_sent(image, max_pixels), top_k)

    def explain(image: dict | None) -> Image.Image:
        """Show which areas of one photo support the prediction.

        Parameters:
            image: an image file, as for predict.
        Returns:
            the photo as the model sees it, with the areas that support the prediction highlighted.
        """
        if image is None:
            raise visitor_error("Choose a photo first.")
        try:
            return fruits.explain(open_sent(image, max_pixels)).overlay(HEAT_SIZE)
        except InputError as error:
            raise visitor_error(str(error)) from error

    with gr.Row(equal_height=False, elem_id="one"):
        with gr.Column(elem_id="seen"):
            photo = photo_input("photo")
            with gr.Column(visible=False, elem_id="explained") as explained:
                heat = _heatmap()
        with gr.Column(elem_id="predictions", elem_classes="predictions"):
            verdict = gr.HTML(label="verdict", elem_classes="verdict")
            prediction = prediction_label(top_k, "prediction")
            took = gr.State("")  # clients of the API get no state
            note = gr.HTML(elem_id="took")
            shown = gr.Button("Show heatmap", elem_id="explain")
            if feedback:
                _ask(fruits, feedback, photo, max_pixels)
    if examples:
        taught = getattr(fruits.config, "taught", None) or ()
        examples_strip(examples, photo, taught=taught)
    # preprocess=False: only open_upload decodes what visitors send, here and in all tabs. Gradio
    # checks the place only of files that call themselves gradio.FileData.
    shows = [prediction, verdict, took]
    named = photo.change(predict, photo, shows, api_name="predict", preprocess=False)
    named.success(
        lambda text: text,
        *(took, note),
        api_visibility="private",
        queue=False,
        show_progress="hidden",
    )
    named.failure(lambda: None, None, photo, api_visibility="private", queue=False)
    shown.click(explain, photo, heat, api_name="explain", preprocess=False).success(
        lambda: gr.Column(visible=True), None, explained, api_visibility="private"
    )
    photo.change(
        lambda: (None, gr.Column(visible=False)),
        *(None, [heat, explained]),
        api_visibility="private",
    )


def _heatmap() -> gr.Image:
    return gr.Image(
        type="pil",
        format="jpeg",
        interactive=False,
        height=400,
        label="What the prediction is based on",
        buttons=["fullscreen"],
        elem_id="heat",
    )


def photo_input(elem_id: str, height: int = 400) -> gr.Image:
    """Where one photo comes in: a file, the camera or the clipboard, but no address."""
    photo = gr.Image(
        type="filepath",
        label="photo",
        sources=["upload", "webcam", "clipboard"],
        placeholder="# Drop a photo here\nor click to choose one",
        height=height,
        show_label=False,
        buttons=["fullscreen"],
        elem_id=elem_id,
        elem_classes="photo",
    )
    return with_local_example(photo)


def prediction_label(top_k: int, elem_id: str) -> gr.Label:
    """Empty until there is a prediction; its label only names it in the API."""
    style = {"show_label": False, "elem_id": elem_id, "elem_classes": "prediction"}
    return gr.Label(label="prediction", num_top_classes=top_k, **style)


def _ask(fruits: FruitClassifier, feedback: FeedbackBox, photo: gr.Image, max_pixels: int) -> None:
    """Was it right? The photo is classified again, so that no client can forge the prediction."""

    def keep(sent: dict | None, right: str | None) -> None:
        shown = open_sent(sent, max_pixels)
        found = fruits.predict(shown)
        if right is not None and right not in (NO_CLASS, *fruits.labels):
            raise visitor_error("Choose what it is from the list.")
        predicted = found.label if found.known else NO_CLASS
        said = predicted if right is None else right
        try:
            feedback.keep(
                shown,
                predicted=found.label,
                score=found.score,
                known=found.known,
                label=None if said == NO_CLASS else said,
            )
        except InputError as error:
            raise visitor_error(str(error)) from error

    def keep_right(sent: dict | None) -> str:
        keep(sent, None)
        return "Thank you! Your feedback is saved."

    def keep_wrong(sent: dict | None, right: str | None) -> tuple[str, dict]:
        keep(sent, right or "")
        return "Thank you! Your feedback is saved.", gr.update(visible=False)

    with gr.Column(elem_id="feedback"):
        with gr.Row(elem_id="say"):
            thanks = gr.Markdown("Was that right?", elem_id="asked")
            right = gr.Button("Right", size="sm", elem_id="right")
            wrong = gr.Button("Wrong", size="sm", elem_id="wrong")
        with gr.Row(visible=False, elem_id="correct") as correct:
            choices = [*sorted(fruits.labels), NO_CLASS]
            kind = gr.Dropdown(choices, value=None, label="It is", elem_id="kind", scale=3)
            send = gr.Button("Send", variant="primary", size="sm", elem_id="send", scale=1)
        gr.Markdown("Your feedback and the photo are stored on this server.", elem_id="where")
    private = {"api_visibility": "private", "preprocess": False}
    right.click(keep_right, photo, thanks, **private)
    wrong.click(lambda: gr.update(visible=True), None, correct, queue=False, **private)
    send.click(keep_wrong, [photo, kind], [thanks, correct], **private)
    photo.change(
        lambda: ("Was that right?", gr.update(visible=False), None),
        *(None, [thanks, correct, kind]),
        queue=False,
        **private,
    )
