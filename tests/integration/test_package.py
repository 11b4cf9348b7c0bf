"""The wheel is complete and valid, and trains when installed on its own."""

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from support.runs import TINY_FLAGS

from hffruits.data.samples import samples_dir

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
SOURCES = {".py", ".yaml", ".jinja", ".css", ".js"}


@pytest.fixture(scope="module")
def builds(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    # of the source distribution, so what that lacks, this lacks too
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def wheel(builds) -> Path:
    return next(builds.glob("*.whl"))


def test_the_wheel_is_valid_and_holds_every_module_and_the_sample_photos(wheel):
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", wheel], check=True)
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = [path for path in (ROOT / "hffruits").rglob("*") if path.suffix in SOURCES]
    assert {str(path.relative_to(ROOT)) for path in sources} <= names
    samples = [path for path in samples_dir().rglob("*") if path.is_file()]
    assert {path.name for path in samples} >= {"LICENSE", "README.md", "Royal-Gala_005.jpg"}
    assert {str(path.relative_to(ROOT)) for path in samples} <= names
    assert not [name for name in names if name.startswith(("tests/", "scripts/", "runs/"))]


def test_the_wheel_has_the_licenses_of_the_code_and_of_the_photos(wheel):
    with zipfile.ZipFile(wheel) as archive:
        texts = {name: archive.read(name) for name in archive.namelist() if ".dist-info/" in name}
    (info,) = [text.decode() for name, text in texts.items() if name.endswith("/METADATA")]
    assert "\nLicense-Expression: Apache-2.0 AND MIT\n" in info
    licenses = [text for name, text in texts.items() if name.endswith("/LICENSE")]
    expected = [(ROOT / "LICENSE").read_bytes(), (samples_dir() / "LICENSE").read_bytes()]
    assert sorted(licenses) == sorted(expected)


def test_the_source_distribution_has_all_that_its_tests_read(builds):
    with tarfile.open(next(builds.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for folder in ("benchmarks", "docs", "scripts", "tests"):
        files = [path for path in (ROOT / folder).rglob("*") if path.is_file()]
        files = [path for path in files if path.suffix != ".pyc"]
        assert files and {str(path.relative_to(ROOT)) for path in files} <= names


def test_the_installed_wheel_trains_away_from_the_source_tree(wheel, drawn_fruits, tmp_path):
    install = ["install", "--quiet", "--no-deps", "--target", tmp_path / "site", wheel]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True)
    options = ["--output_dir", "run", "--max_steps", "1", *TINY_FLAGS]
    subprocess.run(
        [sys.executable, "-m", "hffruits", "train", drawn_fruits, *options],
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        cwd=tmp_path,
        check=True,
    )
    where = "import hffruits; print(hffruits.__file__)"
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(
        [sys.executable, "-c", where], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert Path(done.stdout.strip()).is_relative_to(tmp_path / "site")
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["training"]["steps"] == 1
