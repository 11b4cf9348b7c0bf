"""Fixtures: images, folders and one small trained model that several test files share."""

import gc
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may wait for the network
if "PYTEST_XDIST_WORKER" in os.environ:  # the processes share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import datasets
import huggingface_hub
from filelock import FileLock
from PIL import features
from support import warm
from support.drawing import FRUITS, draw_fruit
from support.hub_server import TOKEN, Hub, serve_hub
from support.pages import browser, open_page  # noqa: F401, fixtures
from support.runs import UNTRAINED_LABELS, paint, quick_arguments, save_untrained
from support.windows import windows  # noqa: F401, a fixture

from hffruits.data.images import decoder_versions


def pytest_configure() -> None:
    gc.disable()  # while the tests are imported, which makes a million objects and no garbage


def pytest_collection_finish() -> None:
    """Nobody has to look through what is imported by now."""
    gc.freeze()
    gc.enable()


WHOLE = {"drawn_fruits", "local_hub", "traced_once", "served", "demo", "server"}


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs a whole run, Hub, export or server is no unit test."""
    for item in items:
        if WHOLE & set(item.fixturenames):
            item.add_marker(pytest.mark.slow)


COLOURS = {"Apple": "red", "Banana": "yellow", "Lime": "lime", "Plum": "purple"}


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """`make_folder({"train/Apple": 3, ...})` writes that many images into each folder."""

    def make(counts: dict[str, int], root: Path | None = None) -> Path:
        root = root or tmp_path / "fruits"
        for number, (folder, count) in enumerate(counts.items()):
            for index in range(count):
                colour = COLOURS.get(Path(folder).name, "red")
                paint(root / folder / f"{index}.jpg", colour, seed=1000 * number + index)
        return root

    return make


@pytest.fixture
def other_decoder(monkeypatch):
    """Pretend that another libjpeg-turbo is installed."""
    installed = features.version
    monkeypatch.setattr(
        features, "version", lambda name: "0.1" if name == "libjpeg_turbo" else installed(name)
    )
    decoder_versions.cache_clear()
    yield
    decoder_versions.cache_clear()


@pytest.fixture(scope="session", autouse=True)
def cache(shared) -> Path:
    """One cache for the session, so that no test reads or fills the user's."""
    folder = shared("cache", Path.mkdir)
    os.environ["HFFRUITS_CACHE"] = str(folder)
    os.environ["HF_DATASETS_CACHE"] = str(folder / "datasets")  # of processes started here
    datasets.config.HF_DATASETS_CACHE = folder / "datasets"
    return folder


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Callable[[str, Callable[[Path], None]], Path]:
    """`shared(name, make)`: a folder that `make` fills once for all processes of the session."""
    own = tmp_path_factory.getbasetemp()
    base = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def find_or_make(name: str, make: Callable[[Path], None]) -> Path:
        folder, done = base / name, base / f"{name}.done"
        with FileLock(base / f"{name}.lock"):
            if not done.exists():
                make(folder)
                done.touch()
        return folder

    return find_or_make


@pytest.fixture(scope="session", autouse=True)
def warm_processes(shared, cache) -> None:
    """Lets the session's tests find, or start, the process that others are forked from."""
    session = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    start = partial(warm.start_server, owner=session)
    warm.find_server = lambda: shared("warm", start)


@pytest.fixture(scope="session")
def drawn_fruits(shared) -> Path:
    """Four drawn fruits, in split folders at uneven depth."""
    return shared("drawn", draw_fruits)


def draw_fruits(root: Path) -> None:
    for split, count in {"train": 8, "validation": 3, "test": 5}.items():
        for name in list(FRUITS)[:4]:
            folder = root / split / ("Group" if name.startswith("B") else "") / name
            folder.mkdir(parents=True)
            for index in range(count):
                seed = 100 * len(split) + index
                draw_fruit(name, seed=seed, size=64).save(folder / f"{index}.png")


@pytest.fixture(scope="session")
def trained(drawn_fruits: Path, shared) -> Path:
    """The folder of one finished two-epoch run on `drawn_fruits`."""
    from hffruits.training.run import train

    return shared("trained", lambda folder: train(*quick_arguments(drawn_fruits, folder)))


@pytest.fixture
def without_report(monkeypatch) -> None:
    """Runs of this process draw no page, plot and card, for tests that look at something else."""
    for name in ("show_artifact", "write_model_card"):
        monkeypatch.setattr(f"hffruits.training.run.{name}", lambda *_, **__: None)


@pytest.fixture
def local_hub(tmp_path: Path, monkeypatch) -> Iterator[Hub]:
    """A hub of its own that this process's clients, too, take for the Hub; logged in as `user`."""
    with serve_hub({}, lfs_from=10_000, part_size=4_000_000) as hub:
        constants = huggingface_hub.constants
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, hub.url)
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.url)
        monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr("hffruits.core.hub_client.WAITS", (0, 0))
        yield hub


@pytest.fixture(scope="session")
def untrained(shared) -> Path:
    """The folder of a model with an untrained head."""
    return shared("untrained", lambda folder: save_untrained(folder, UNTRAINED_LABELS))
