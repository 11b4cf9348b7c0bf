"""Errors of `datasets` as an `InputError` in one line, and its log lines and bars left out."""

import csv
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from datasets.exceptions import DatasetNotFoundError, DatasetsError
from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from datasets.utils.logging import CRITICAL, get_verbosity, set_verbosity
from huggingface_hub.errors import HfHubHTTPError, HTTPError

from hffruits.core.errors import InputError, short_reason


@contextmanager
def quiet(*, bars: bool = False) -> Iterator[None]:
    """No log lines of `datasets`, which repeat the error, and no bars, which count its files."""
    verbosity, stop_bars = get_verbosity(), not bars and not are_progress_bars_disabled()
    set_verbosity(CRITICAL)
    if stop_bars:
        disable_progress_bars()
    try:
        yield
    finally:
        set_verbosity(verbosity)
        if stop_bars:
            enable_progress_bars()


@contextmanager
def translate_dataset_errors(source: object) -> Iterator[None]:
    """Within it, what `datasets` and its readers raise for a bad source is an `InputError`."""
    try:
        yield
    except InputError:
        raise
    except DatasetNotFoundError as error:
        if "gated" in str(error):
            raise InputError(
                f"{source}: gated. Ask for access on its page, then log in with `hf auth login`."
            ) from error
        raise InputError(
            f"{source}: no such dataset, or it is private. Check the name, or log in with "
            "`hf auth login`."
        ) from error
    except (HfHubHTTPError, HTTPError, ConnectionError) as error:
        raise InputError(
            f"{source}: the Hub can't be reached ({short_reason(error)}). Try again later."
        ) from error
    except (DatasetsError, tarfile.TarError, *_DAMAGE) as error:
        cause = error.__cause__ or error
        if isinstance(cause, InputError):
            raise cause from None
        if isinstance(cause, UnicodeDecodeError):
            raise InputError(
                f"{source}: not text in {cause.encoding}. Save it as UTF-8, or name its encoding "
                "as table_encoding."
            ) from error
        raise InputError(
            f"{source}: can't be read as a dataset ({short_reason(cause)}). Fix or replace it."
        ) from error


_DAMAGE = (
    *(OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError, EOFError),
    *(zlib.error, csv.Error),
)
