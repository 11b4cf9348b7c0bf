"""`python -m hffruits` is the `hffruits` command."""

from hffruits.cli.main import run

run()
