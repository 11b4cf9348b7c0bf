"""Serve the demo page of a trained model: `python app.py`, or with `--model FOLDER`."""

import argparse
import sys
from pathlib import Path

from hffruits.errors import InputError


def main() -> int:
    parser = argparse.ArgumentParser(description="Serve the demo page of a trained model.")
    parser.add_argument(
        "--model",
        metavar="FOLDER|HUB_ID",
        help="the model to serve (default: the newest below runs/, else the bundled ImageNet one)",
    )
    parser.add_argument("--share", action="store_true", help="make a public link, for 3 days")
    parser.add_argument(
        "--auth",
        metavar="USER:PASSWORD",
        help="ask visitors for these; HFFRUITS_AUTH keeps them out of the list of processes",
    )
    parser.add_argument(
        "--feedback",
        type=Path,
        metavar="DIR",
        help="keep what visitors say of answers here (default: feedback/; off where others than "
        "this computer reach the page)",
    )
    parser.add_argument(
        "--teach_dir",
        type=Path,
        metavar="DIR",
        help="save taught models below this folder (default: runs/; off as above)",
    )
    options = parser.parse_args()

    from hffruits.demo import launch_demo  # loads gradio and torch; --help needs neither

    try:
        launch_demo(
            options.model,
            share=options.share,
            auth=options.auth,
            feedback_dir=options.feedback,
            teach_dir=options.teach_dir,
        )
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
