"""Serve the demo of a trained model: `python app.py`, or with `--model FOLDER`.

The same as `hffruits demo`; platforms that host Gradio apps look for this file.
"""

import sys

from hffruits.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["demo", *sys.argv[1:]]))
