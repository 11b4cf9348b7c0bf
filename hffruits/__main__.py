"""`python -m hffruits` is the `hffruits` command."""

from hffruits.cli import run

run()
