"""What a link to the page shows: in the page as it is sent, without a script."""

import io
import re

from PIL import Image

from hffruits.demo.link_preview import HEIGHT, WIDTH, LinkPreview, draw_image

PAGE = """<head>
    <meta charset="utf-8" />
    <meta property="og:title" content="Gradio" />
    <meta
        property="og:image"
        content="https://example.org/a.jpg"
    />
    <meta name="twitter:title" content="Gradio" />
    <meta name="viewport" content="width=device-width" />
</head>"""


def test_the_pages_own_texts_replace_gradios() -> None:
    page = LinkPreview("What & what?", "A <b> page", []).in_page(PAGE, root="http://x.org/a")
    assert "Gradio" not in page and "example.org" not in page and "viewport" in page
    assert page.count("og:title") == page.count("<title>") == page.count('og:image"') == 1
    assert "<title>What &amp; what?</title>" in page
    assert page.count('content="A &lt;b&gt; page"') == 2
    assert 'property="og:image" content="http://x.org/a/preview.jpg"' in page


def test_an_address_that_a_client_made_up_stays_text() -> None:
    page = LinkPreview("T", "D", []).in_page(PAGE, root='http://x"><script>alert(1)</script>')
    assert "<script>" not in page


def test_the_image_has_the_size_of_previews_whatever_is_shown() -> None:
    for photos in ([], [Image.new("RGB", (30, 900), "red")] * 9):
        for title in ("What fruit is this?", "W" * 80):
            with Image.open(io.BytesIO(draw_image(title, photos))) as image:
                assert image.size == (WIDTH, HEIGHT) and image.format == "JPEG"


def test_a_title_of_a_name_is_not_taken_for_a_pattern() -> None:
    page = LinkPreview(r"\1 \g<0>", "D", []).in_page(PAGE, root="http://x")
    assert re.search(r"<title>\\1 \\g&lt;0&gt;</title>", page)
