"""Serve the demo page of a trained model: `python app.py`, or with `--model FOLDER`."""

import argparse
import sys

from hffruits.errors import InputError


def main() -> int:
    parser = argparse.ArgumentParser(description="Serve the demo page of a trained model.")
    parser.add_argument(
        "--model",
        metavar="FOLDER|HUB_ID",
        help="the model to serve (default: the newest below runs/, else the bundled ImageNet one)",
    )
    parser.add_argument("--share", action="store_true", help="make a public link, for 3 days")
    options = parser.parse_args()

    from hffruits.demo import launch_demo  # loads gradio and torch; --help needs neither

    try:
        launch_demo(options.model, share=options.share)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
