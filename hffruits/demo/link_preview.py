"""What a link to the page shows elsewhere: its title, a sentence and an image.

Those who make previews run no scripts, so it stands in the page as it is sent: gradio's own there
speak of gradio, and name an image on another site.
"""

import html
import io
import re

import gradio as gr
from gradio.route_utils import get_root_url
from PIL import Image, ImageDraw, ImageFont, ImageOps
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hffruits.demo.server import route_of

IMAGE_PATH = "/preview.jpg"
WIDTH, HEIGHT = 1200, 630  # pixels, as previews are shown
TILE, GAP, TOP = 250, 24, 190
_CHARSET = '<meta charset="utf-8" />'
_PEEL, _CREAM, _FIG = "#ee6c1a", "#fffaf2", "#251b29"
_OWN = re.compile(r'\s*<meta\s+(?:property="og:|name="(?:twitter:|description))[^>]*>')


class LinkPreview:
    """The title, the sentence and the image of one page."""

    def __init__(self, title: str, description: str, photos: list[Image.Image]):
        self.title, self.description = title, description
        self.image = draw_image(title, photos)

    def route(self) -> Route:
        """The image, open to all: pages that need a password have one without photos."""

        async def image(request: Request) -> Response:
            return Response(self.image, media_type="image/jpeg")

        return Route(IMAGE_PATH, image)

    def in_page(self, page: str, *, root: str) -> str:
        """A page of gradio's with this in its head, in place of what it says of gradio.

        `root` is the address that the page was asked by.
        """
        facts = {
            'property="og:title"': self.title,
            'property="og:description"': self.description,
            'property="og:type"': "website",
            'property="og:url"': f"{root}/",
            'property="og:image"': f"{root}{IMAGE_PATH}",
            'property="og:image:width"': str(WIDTH),
            'property="og:image:height"': str(HEIGHT),
            'name="twitter:card"': "summary_large_image",
            'name="description"': self.description,
        }
        tags = [f'<meta {name} content="{html.escape(text)}" />' for name, text in facts.items()]
        head = "\n\t\t".join(["", f"<title>{html.escape(self.title)}</title>", *tags])
        return _OWN.sub("", page).replace(_CHARSET, _CHARSET + head, 1)


class PreviewMiddleware:
    """ASGI middleware: holds the page until it is whole, and sends it with its preview."""

    def __init__(self, app: ASGIApp, demo: gr.Blocks, preview: LinkPreview):
        self.app, self.demo, self.preview = app, demo, preview

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_page = scope["type"] == "http" and scope["method"] == "GET" and not route_of(scope)
        if is_page:
            root = get_root_url(Request(scope), "/", self.demo.root_path or None)
            send = _with_preview(send, self.preview, root)
        await self.app(scope, receive, send)


def draw_image(title: str, photos: list[Image.Image]) -> bytes:
    """A JPEG: the title above up to four photos."""
    image = Image.new("RGB", (WIDTH, HEIGHT), _CREAM)
    draw = ImageDraw.Draw(image)
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
        image.paste(tile, (left + number * (TILE + GAP), TOP + 60), mask)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=88, optimize=True)
    return file.getvalue()


def _with_preview(send: Send, preview: LinkPreview, root: str) -> Send:
    start: Message = {}
    body = bytearray()

    async def with_preview(message: Message) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
            return
        body.extend(message.get("body", b""))
        if message.get("more_body"):
            return
        page = preview.in_page(body.decode(), root=root).encode()
        headers = [(name, value) for name, value in start["headers"] if name != b"content-length"]
        headers.append((b"content-length", b"%d" % len(page)))
        await send(start | {"headers": headers})
        await send({"type": "http.response.body", "body": page})

    return with_preview


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
