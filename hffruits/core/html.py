"""Self-contained HTML pages: a template filled with plain values, and images as data URIs.

A page carries its styles, scripts and images inside: it opens from disk and asks no network,
which its content security policy also forbids. What the values say is up to the caller.
"""

import base64
import hashlib
import io
import math
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image, ImageOps

from hffruits.core.counts import counted
from hffruits.core.durations import format_duration
from hffruits.core.errors import optional_output
from hffruits.core.files import translate_write_errors, write_aside

TEMPLATES = Path(__file__).with_name("templates")
SEVERITIES = ("high", "medium", "low", "info")
Shown = TypeVar("Shown")


def render_page(template: Path, content: dict[str, Any], file: Path) -> None:
    """Fill a template with `content` and write it as one file.

    Every value is escaped. Raises jinja2's `UndefinedError` for a value that the template needs
    and `content` lacks, `InputError` where the file can't be written.
    """
    page = _load_template(template).render(content)
    with translate_write_errors(file, "Choose another folder."), write_aside(file) as aside:
        aside.write_bytes(page.encode("utf-8", "replace"))  # file names may hold lone surrogates


@cache
def _load_template(file: Path) -> jinja2.Template:
    """A template of ours, compiled: it never changes while we run."""
    folders = (file.parent, TEMPLATES)  # its own, and what all pages have
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False}  # browsers can't parse NaN
    environment.filters |= {
        "number": _number,
        "counted": counted,
        "duration": format_duration,
        "by_severity": _by_severity,
    }
    environment.globals |= {
        "inline": partial(_inline, folders),
        "script_hashes": _script_hashes(folders),
    }
    return environment.get_template(file.name)


def part_of(page: Path, name: str, make: Callable[[], Shown], otherwise: Shown) -> Shown:
    """What a part of a page shows, or what it shows `otherwise` if that fails."""
    with optional_output(f"{page}, {name}", remedy="The rest of the page is there."):
        return make()
    return otherwise


def thumbnail_uri(image: Image.Image, size: int) -> str:
    """The image as the address of a JPEG whose long side has `size` pixels."""
    scale = size / max(image.size)
    width, height = (max(1, round(scale * side)) for side in image.size)
    return _jpeg_uri(image.convert("RGB").resize((width, height), reducing_gap=2.0))


def sprite_uri(images: list[Image.Image | np.ndarray], size: int, columns: int) -> str:
    """All images, cut to squares of `size` pixels, on one JPEG sheet; row by row.

    Arrays are (H, W, 3) of uint8. A JPEG ends at 65,535 pixels a side.
    """
    rows = max(1, math.ceil(len(images) / columns))
    sheet = Image.new("RGB", (columns * size, rows * size), "white")
    for index, image in enumerate(images):
        whole = Image.fromarray(image) if isinstance(image, np.ndarray) else image
        row, column = divmod(index, columns)
        tile = ImageOps.fit(whole.convert("RGB"), (size, size))
        sheet.paste(tile, (column * size, row * size))
    return _jpeg_uri(sheet)


def _jpeg_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _inline(folders: tuple[Path, ...], name: str) -> Markup:
    """A style sheet or script of ours as it stands, not taken for a template."""
    file = next(folder / name for folder in folders if (folder / name).is_file())
    return Markup(file.read_text(encoding="utf-8"))


def _script_hashes(folders: tuple[Path, ...]) -> str:
    """Our scripts, as a content security policy names them: no other script may run."""
    scripts = [path for folder in folders for path in sorted(folder.glob("*.js"))]
    digests = [hashlib.sha256(_inline(folders, path.name).encode()).digest() for path in scripts]
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value % 1 == 0 or abs(value) >= 100 else f"{value:.3g}"


def _by_severity(findings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding["severity"]))
