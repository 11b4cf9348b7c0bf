"""Images of the tutorials: the kinds of the sample set, and the reports that the tutorials make.

    python docs/tutorial_images.py FOLDER

`FOLDER` is where the commands of the tutorials were run: it holds `runs/first` and `exploration`.
"""

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps
from playwright.sync_api import sync_playwright
from screenshots import (
    BACKGROUND,
    DOCS,
    launch_chromium,
    open_report,
    save_small,
    shoot_two_parts,
)

from hffruits.data.samples import example_photos

COLUMNS, SIDE, GAP, TEXT = 6, 150, 10, 22  # pixels, but for the columns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    draw_kinds().save(DOCS / "tutorials/kinds.jpg", quality=85)
    with sync_playwright() as playwright:
        browser = launch_chromium(playwright)
        output = DOCS / "tutorials"
        report = folder / "runs/first/report.html"
        shoot_two_parts(browser, report, output / "first-report.png", "#confusion")
        explored = folder / "exploration/explore.html"
        page = open_report(browser, explored, width=1000, height=1100)
        save_small(page.screenshot(), output / "first-explore.png")


def draw_kinds() -> Image.Image:
    """A photo of each kind with its name below."""
    photos = example_photos()
    rows = -(-len(photos) // COLUMNS)
    step = SIDE + GAP
    sheet = Image.new("RGB", (COLUMNS * step - GAP, rows * (step + TEXT) - GAP), BACKGROUND)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=14)
    for place, (label, file) in enumerate(photos.items()):
        left, top = place % COLUMNS * step, place // COLUMNS * (step + TEXT)
        with Image.open(file) as photo:
            sheet.paste(ImageOps.fit(photo.convert("RGB"), (SIDE, SIDE)), (left, top))
        middle = (left + SIDE // 2, top + SIDE + TEXT // 2)
        pen.text(middle, label, fill="#251b29", font=font, anchor="mm")
    return sheet


if __name__ == "__main__":
    main()
