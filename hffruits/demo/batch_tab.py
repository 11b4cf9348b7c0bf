"""The Batch tab classifies many photos: files or zips in, a table, thumbnails and a CSV out."""

import csv
import html
import io
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache
from PIL import Image

from hffruits.core.errors import InputError
from hffruits.core.escaping import spreadsheet_cell
from hffruits.core.files import CSV_ENCODING
from hffruits.demo.uploads import MAX_IMAGES, UPLOAD_SUFFIXES, Upload, list_uploads, open_upload
from hffruits.demo.widgets import sent_files, upload_folder, visitor_error, with_local_example
from hffruits.inference.classifier import FruitClassifier, Prediction

THUMBNAIL = 320  # pixels
HEADERS = ["File", "Class", "Confidence", "Known", "Problem"]


class Row(NamedTuple):
    """One photo's line: either named, or with the reason why not."""

    name: str
    found: Prediction | None = None
    thumbnail: Image.Image | None = None
    reason: str = ""


def batch_tab(fruits: FruitClassifier, *, stopping: threading.Event, max_pixels: int) -> None:
    """Build the tab, inside `gr.Tab`. Once the server is stopping, a batch under way ends."""

    def batch(
        files: list[dict] | None,
        progress=gr.Progress(),  # noqa: B008 (gradio asks for it as a default)
    ) -> tuple[list[list[str]], list[tuple[Image.Image, str]], str | None, str, str]:
        """Name the fruit or vegetable in each of many photos.

        Parameters:
            files: image files, and zips of them: 200 photos at most, 50 MB each.
        Returns:
            table: a row for each: File, Class, Confidence in percent, Known (yes or no), Problem.
            gallery: a thumbnail for each that could be read, with its class.
            csv: a table with the columns of `hffruits predict`: label, score in [0, 1], known.
            summary: how many there were.
        """
        sent = sent_files(files)
        if not sent:
            raise visitor_error("Choose photos or a zip first.")

        def report(done: int, total: int) -> None:
            progress((done, total), desc="Naming", unit="photos")

        try:
            rows = list(_name_all(fruits, sent, report, stopping, max_pixels))
        except InputError as error:
            raise visitor_error(str(error)) from error
        table = [_table_row(row) for row in rows]
        thumbnails = [(row.thumbnail, _caption(row.found)) for row in rows if row.found]
        file = save_bytes_to_cache(
            to_csv(rows).encode(CSV_ENCODING), "fruits.csv", str(upload_folder())
        )
        return table, thumbnails, file, _summary(rows), html_table(table)

    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=280, elem_id="sending"):
            files = gr.File(
                file_count="multiple",
                file_types=["image", *sorted(UPLOAD_SUFFIXES), ".zip"],  # browsers don't know all
                label="Photos or a zip",
                height=240,
                elem_id="files",
                elem_classes="drop",
            )
            with_local_example(files)
            start = gr.Button("Name them all", variant="primary", elem_id="start")
            gr.Markdown(
                f"Up to {MAX_IMAGES} photos of 50 MB each, one by one or in zips of 100 MB.",
                elem_classes="hint",
            )
        with gr.Column(scale=3, min_width=280, elem_id="results"):
            summary, table, shown = _result_table()
            with gr.Column(visible=False) as csv_column:
                download = gr.DownloadButton("Download as CSV", elem_id="csv")
    with gr.Column(visible=False) as gallery_column:
        gallery = _result_gallery()
    rows = gr.State("")  # clients of the API get no state
    start.click(
        batch,
        files,
        [table, gallery, download, summary, rows],
        api_name="batch",
        preprocess=False,
        concurrency_id="batch",
        concurrency_limit=1,
        show_progress_on=summary,
    ).success(
        lambda text: (text, gr.Column(visible=True), gr.Column(visible=True)),
        *(rows, [shown, csv_column, gallery_column]),
        api_visibility="private",
        queue=False,
    )


def _result_table() -> tuple[gr.Markdown, gr.Dataframe, gr.HTML]:
    """What says how many there were; the table for clients, and as visitors see it."""
    summary = gr.Markdown(
        "Results appear here, with a table to download.", label="summary", elem_id="summary"
    )
    table = gr.Dataframe(
        label="table",
        headers=HEADERS,
        datatype=["str"] * len(HEADERS),
        type="array",
        interactive=False,
        visible="hidden",
    )
    shown = gr.HTML(elem_id="table", apply_default_css=False)
    return summary, table, shown


def _result_gallery() -> gr.Gallery:
    return gr.Gallery(
        label="gallery",
        show_label=False,
        columns=5,
        height="auto",
        object_fit="cover",
        format="jpeg",
        interactive=False,
        buttons=["fullscreen"],
        elem_id="gallery",
    )


def html_table(rows: list[list[str]]) -> str:
    """The table as visitors see it: on a narrow screen each row is a block of lines."""
    head = "".join(f"<th>{header}</th>" for header in HEADERS)
    lines = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def to_csv(rows: list[Row]) -> str:
    """The table as CSV; a cell that a spreadsheet would compute is led by an apostrophe."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["file", "label", "score", "known", "error"])
    for row in rows:
        found = row.found
        prediction = (found.label, f"{found.score:.4f}", found.known) if found else ("", "", "")
        cells = [row.name, *map(str, prediction), row.reason]
        writer.writerow([spreadsheet_cell(cell) for cell in cells])
    return text.getvalue()


def _name_all(
    fruits: FruitClassifier,
    sent: list[Upload],
    report: Callable[[int, int], None],
    stopping: threading.Event,
    max_pixels: int,
) -> Iterator[Row]:
    """One at a time, so that memory holds one large photo and other visitors get a turn."""
    root = upload_folder()
    with tempfile.TemporaryDirectory(prefix="hffruits-batch-", dir=root) as folder:
        images, refused = list_uploads(sent, Path(folder), root)
        for number, upload in enumerate(images):
            if stopping.is_set():
                raise InputError("The server is stopping.")
            report(number, len(images))
            yield _name_one(fruits, upload, max_pixels)
        yield from (Row(name, reason=reason) for name, reason in refused)


def _name_one(fruits: FruitClassifier, upload: Upload, max_pixels: int) -> Row:
    try:
        image = open_upload(upload.path, upload_folder(), max_pixels=max_pixels)
    except InputError as error:
        return Row(upload.name, reason=str(error))
    found = fruits.predict(image)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    return Row(upload.name, found, image)


def _table_row(row: Row) -> list[str]:
    if row.found is None:
        return [row.name, "", "", "", f"unreadable: {row.reason}"]
    known = "yes" if row.found.known else "no"
    return [row.name, row.found.label, f"{100 * row.found.score:.0f} %", known, ""]


def _caption(found: Prediction) -> str:
    return f"{found.label} · {100 * found.score:.0f} %" if found.known else "Unknown"


def _summary(rows: list[Row]) -> str:
    found = [row.found for row in rows if row.found]
    unknown = sum(not one.known for one in found)
    counts = {"named": len(found) - unknown, "unknown": unknown}
    counts["unreadable"] = len(rows) - len(found)
    return ", ".join(f"**{count}** {what}" for what, count in counts.items() if count)
