"""The animation of README: the demo recognises a fruit, meets one it doesn't know, and learns it.

    python docs/animation.py --model runs/sample --data_dir produce

`--data_dir` has train and val folders: the known photo is of val, those to teach are of train,
where the model has seen none of their class. Screenshots of the running demo, crossfaded into a
WebP; takes a minute on 2 CPU cores.
"""

import argparse
import io
import tempfile
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright
from screenshots import DOCS, demo_of, launch_chromium, open_demo, photos_of, predict, teach

OUTPUT = DOCS / "demo.webp"
VIEW = (1100, 860)
SIZE = (880, 688)
FADE = 4  # frames between two scenes
FRAME_MS = 60
LIMIT = 2 * 2**20  # bytes


class Scene(NamedTuple):
    """What is seen, and for how long."""

    image: Image.Image
    ms: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="folder of the model")
    parser.add_argument("--data_dir", type=Path, required=True, help="folder with train and val")
    parser.add_argument("--known", default="Banana", help="a class of the model")
    parser.add_argument("--new", default="Pineapple", help="a class that it doesn't have")
    args = parser.parse_args()
    expect.set_options(timeout=60_000)  # ms
    known = photos_of(args.known, args.data_dir / "val")
    new = photos_of(args.new, args.data_dir / "train")
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        browser = launch_chromium(playwright)
        with demo_of(args.model, Path(name)) as (url, _):
            page = open_demo(browser, url, width=VIEW[0])
            page.set_viewport_size({"width": VIEW[0], "height": VIEW[1]})
            scenes = record(page, known[0], args.new, new[-7:])
    save(scenes, OUTPUT)


def record(page: Page, known: Path, name: str, new: list[Path]) -> list[Scene]:
    scenes = [shoot(page, 1200)]
    predict(page, known)
    scenes.append(shoot(page, 2500))
    page.reload()
    page.locator("#photo input[type=file]").set_input_files(new[-1])
    expect(page.get_by_test_id("label-output-value")).to_be_attached()  # hidden if it is unknown
    scenes.append(shoot(page, 3000))
    page.reload()
    teach(page, name, new)
    page.locator("#trial-prediction").scroll_into_view_if_needed()
    scenes.append(shoot(page, 4000))
    return scenes


def shoot(page: Page, ms: int) -> Scene:
    page.wait_for_timeout(1500)  # ms, for what is still moving
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    return Scene(image.resize(SIZE, Image.Resampling.LANCZOS), ms)


def save(scenes: list[Scene], output: Path) -> None:
    """An endless animation; raises if it is larger than a README should load."""
    frames, durations = [], []
    for scene, following in zip(scenes, [*scenes[1:], scenes[0]], strict=True):
        frames.append(scene.image)
        durations.append(scene.ms)
        for step in range(1, FADE + 1):
            frames.append(Image.blend(scene.image, following.image, step / (FADE + 1)))
            durations.append(FRAME_MS)
    frames[0].save(
        output, save_all=True, append_images=frames[1:], duration=durations, loop=0, quality=80,
        method=6,
    )  # fmt: skip
    if output.stat().st_size > LIMIT:
        raise SystemExit(f"{output}: {output.stat().st_size / 2**20:.1f} MB, over 2 MB")


if __name__ == "__main__":
    main()
