"""What a link to the page shows elsewhere: its title, a sentence and a picture.

Those who make previews run no scripts, so it stands in the page as it is sent: gradio's own there
speak of gradio, and name a picture on another site.
"""

import html
import io
import re

from PIL import Image, ImageDraw, ImageFont, ImageOps
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

PICTURE = "/preview.jpg"
WIDTH, HEIGHT = 1200, 630  # pixels, as previews are shown
TILE, GAP, TOP = 250, 24, 190
_CHARSET = '<meta charset="utf-8" />'
_PEEL, _CREAM, _FIG = "#ee6c1a", "#fffaf2", "#251b29"
_OWN = re.compile(r'\s*<meta\s+(?:property="og:|name="(?:twitter:|description))[^>]*>')


class LinkPreview:
    """The title, the sentence and the picture of one page."""

    def __init__(self, title: str, description: str, photos: list[Image.Image]):
        self.title, self.description = title, description
        self.picture = draw_picture(title, photos)

    def route(self) -> Route:
        """The picture, open to all: pages that need a password have one without photos."""

        async def picture(request: Request) -> Response:
            return Response(self.picture, media_type="image/jpeg")

        return Route(PICTURE, picture)

    def in_page(self, page: str, *, root: str) -> str:
        """A page of gradio's with this in its head, in place of what it says of gradio.

        `root` is the address that the page was asked by.
        """
        facts = {
            'property="og:title"': self.title,
            'property="og:description"': self.description,
            'property="og:type"': "website",
            'property="og:url"': f"{root}/",
            'property="og:image"': f"{root}{PICTURE}",
            'property="og:image:width"': str(WIDTH),
            'property="og:image:height"': str(HEIGHT),
            'name="twitter:card"': "summary_large_image",
            'name="description"': self.description,
        }
        tags = [f'<meta {name} content="{html.escape(text)}" />' for name, text in facts.items()]
        head = "\n\t\t".join(["", f"<title>{html.escape(self.title)}</title>", *tags])
        return _OWN.sub("", page).replace(_CHARSET, _CHARSET + head, 1)


def draw_picture(title: str, photos: list[Image.Image]) -> bytes:
    """A JPEG: the title above up to four photos."""
    picture = Image.new("RGB", (WIDTH, HEIGHT), _CREAM)
    draw = ImageDraw.Draw(picture)
    _draw_slice(draw, GAP * 3, 48, 110)
    size = 76
    while size > 24 and _font(size).getlength(title) > WIDTH - 290:
        size -= 4
    draw.text((225, 103), title, fill=_FIG, font=_font(size), anchor="lm")
    shown = photos[:4]
    left = (WIDTH - len(shown) * TILE - max(0, len(shown) - 1) * GAP) // 2
    for number, photo in enumerate(shown):
        mask = Image.new("L", (TILE, TILE))
        ImageDraw.Draw(mask).rounded_rectangle((0, 0, TILE - 1, TILE - 1), 28, fill=255)
        tile = ImageOps.fit(photo.convert("RGB"), (TILE, TILE))
        picture.paste(tile, (left + number * (TILE + GAP), TOP + 60), mask)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=88, optimize=True)
    return file.getvalue()


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def _draw_slice(draw: ImageDraw.ImageDraw, left: int, top: int, size: int) -> None:
    """The page's logo: a slice of an orange."""
    for share, colour in ((0, _PEEL), (0.09, "#ffe3cc"), (0.14, "#fb8a3c")):
        inset = share * size
        box = (left + inset, top + inset, left + size - inset, top + size - inset)
        draw.ellipse(box, fill=colour)
    inset = 0.19 * size
    box = (left + inset, top + inset, left + size - inset, top + size - inset)
    for angle in range(0, 360, 45):
        draw.pieslice(box, angle + 4, angle + 41, fill=_PEEL)
