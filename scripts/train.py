"""Train a fruit classifier: `accelerate launch scripts/train.py [DATA_DIR] [--flag value ...]`."""

import sys

from hffruits.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
