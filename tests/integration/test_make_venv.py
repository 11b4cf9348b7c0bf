"""Which build of torch `make setup` installs: pip, uv and the GPU are stand-ins."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the script is for Linux")
ROOT = Path(__file__).parents[2]
PINS = dict(re.findall(r"^(torch\w*)==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
CPU = f"torch=={PINS['torch']}+cpu torchvision=={PINS['torchvision']}+cpu"
NEEDED = ("sh", "sed", "grep", "mkdir", "mktemp", "cp", "rm", "cat", "uname", "id")
GPU = "#!/bin/sh\necho 'GPU 0: NVIDIA H200'\n"

PYTHON = """#!/bin/sh
case "$*" in
"-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
*metadata*) PYTHONPATH=site exec REAL -S "$@" ;;
*v.cuda*) cat build ;;
*--dry-run*) [ -e has_cpu_builds ] || { cat index_error >&2; exit 1; } ;;
*"pip install"*)
    echo "pip $*" >>log
    if [ -e install_error ]; then cat install_error >&2; exit 1; fi ;;
esac
""".replace("REAL", sys.executable)
UV = """#!/bin/sh
case "$*" in
venv*) mkdir -p .venv/bin; cp fakes/python .venv/bin/python ;;
*--dry-run*+cpu*) [ -e has_cpu_builds ] || { cat index_error >&2; exit 1; } ;;
*--dry-run*) [ -e reaches_pytorch ] || { echo "error: Failed to fetch: pytorch" >&2; exit 1; } ;;
*) echo "uv $*" >>log ;;
esac
"""


def packages(**versions: str) -> dict[str, str]:
    """The files that say which versions are installed."""
    return {
        f"site/{name}-{version}.dist-info/METADATA": f"Name: {name}\nVersion: {version}\n"
        for name, version in versions.items()
    }


class Setup(NamedTuple):
    """What one call of the script printed and installed."""

    code: int
    said: str
    installed: list[str]


@pytest.fixture
def setup(tmp_path):
    """Runs the script in a folder of its own, with no more programs than it is given."""
    fakes = tmp_path / "fakes"
    fakes.mkdir()
    for name in NEEDED:
        (fakes / name).symlink_to(shutil.which(name))
    shutil.copy(ROOT / "constraints.txt", tmp_path)
    (tmp_path / "index_error").write_text(
        "ERROR: No matching distribution found for torch\nerror: No solution found\n"  # pip, uv
    )

    def run(*words: str, torch: str = "auto", programs: dict | None = None, files=()) -> Setup:
        for name, text in ({"python": PYTHON} | (programs or {})).items():
            (fakes / name).unlink(missing_ok=True)
            (fakes / name).write_text(text)
            (fakes / name).chmod(0o755)
        for name, text in (files if isinstance(files, dict) else dict.fromkeys(files, "")).items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
            (tmp_path / name).chmod(0o755)
        done = subprocess.run(
            ["sh", ROOT / "scripts/make_venv.sh", fakes / "python", *words],
            cwd=tmp_path,
            env={"PATH": str(fakes), "TORCH": torch, "HFFRUITS_SYSTEM": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        log = tmp_path / "log"
        lines = log.read_text().splitlines() if log.exists() else []
        return Setup(done.returncode, done.stdout + done.stderr, lines)

    return run


def test_without_a_gpu_the_cpu_builds_of_the_pinned_versions_are_installed_first(setup):
    done = setup(files=["has_cpu_builds"])
    assert done.code == 0 and "torch: the CPU build" in done.said
    assert done.installed[0].endswith(f"-c constraints.txt {CPU}")
    assert done.installed[1].endswith("-c constraints.txt -e .[dev]") and len(done.installed) == 2


def test_an_index_without_cpu_builds_gives_the_default_build_with_its_size_and_a_remedy(setup):
    done = setup()
    said = " ".join(done.said.split())
    assert done.code == 0 and f"no CPU build of {PINS['torch']} to be had" in said
    assert "Its CUDA libraries, of no use without an NVIDIA GPU, take 5 GB" in said
    assert "To avoid that, see docs/install.md" in said
    assert len(done.installed) == 1 and done.installed[0].endswith("-e .[dev]")


@pytest.mark.parametrize("programs", [{}, {"uv": UV}], ids=["pip", "uv"])
@pytest.mark.parametrize(
    "error",
    [
        "No space left on device",
        "THESE PACKAGES DO NOT MATCH THE HASHES",
        "Retrying after ProxyError\nNo matching distribution found",
    ],
)
def test_an_index_that_fails_is_no_index_without_cpu_builds(setup, programs, error):
    done = setup(programs=programs, files={"index_error": f"{error}\n"})
    assert done.code == 2 and done.installed == []
    assert f"{error}\ntorch: whether there is a CPU build can't be found out" in done.said


def test_a_cpu_build_that_cannot_be_installed_is_not_replaced_by_the_larger_one(setup):
    done = setup(files={"has_cpu_builds": "", "install_error": "No space left on device\n"})
    assert done.code == 1 and "No space left on device" in done.said
    assert len(done.installed) == 1 and CPU in done.installed[0]


def test_with_an_nvidia_gpu_no_cpu_build_is_looked_for(setup):
    done = setup(programs={"nvidia-smi": GPU}, files=["has_cpu_builds"])
    assert "for the NVIDIA GPU of this machine" in done.said
    assert len(done.installed) == 1 and done.installed[0].endswith("-e .[dev]")


@pytest.mark.parametrize("file", ["usr/lib/wsl/lib/nvidia-smi", "dev/nvidia0"])
def test_a_gpu_is_found_without_nvidia_smi_on_the_path(setup, file):
    done = setup(files={file: GPU, "has_cpu_builds": ""})
    assert "for the NVIDIA GPU of this machine" in done.said


def test_a_driver_of_the_host_alone_is_no_gpu_in_a_container(setup):
    done = setup(files=["proc/driver/nvidia/version", "has_cpu_builds"])
    assert CPU in done.installed[0]


def test_a_driver_that_finds_no_gpu_counts_as_none(setup):
    broken = "#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n"
    done = setup(programs={"nvidia-smi": broken}, files=["has_cpu_builds"])
    assert CPU in done.installed[0]


def test_uv_takes_the_cpu_builds_from_the_configured_index(setup):
    done = setup(programs={"uv": UV}, files=["has_cpu_builds"])
    assert done.installed[0].endswith(CPU) and len(done.installed) == 2


def test_uv_takes_them_from_pytorchs_index_where_the_configured_one_has_none(setup):
    done = setup(programs={"uv": UV}, files=["reaches_pytorch"])
    assert "torch: the CPU build" in done.said
    assert done.installed[0].endswith("-c constraints.txt --torch-backend=cpu torch torchvision")
    assert done.installed[1].endswith("-e .[dev]") and len(done.installed) == 2


def test_uv_without_either_index_gives_the_default_build(setup):
    done = setup(programs={"uv": UV})
    assert done.code == 0
    assert "Is PyTorch's index reachable? uv: Failed to fetch: pytorch" in done.said
    assert len(done.installed) == 1 and done.installed[0].endswith("-e .[dev]")


@pytest.mark.parametrize("build", ["", "+cpu"])
def test_the_pinned_torch_stays_when_it_is_installed(setup, build):
    version = PINS["torch"] + build
    installed = packages(torch=version, torchvision=PINS["torchvision"] + build)
    done = setup(files={"has_cpu_builds": ""} | installed)
    assert f"torch: {version} is installed, and stays" in done.said and len(done.installed) == 1


@pytest.mark.parametrize("torch", ["cpu", "cuda"])
@pytest.mark.parametrize("build", ["cpu", "cuda"])
def test_a_choice_is_held_against_the_build_that_is_installed(setup, torch, build):
    installed = packages(torch=PINS["torch"], torchvision=PINS["torchvision"])
    done = setup(torch=torch, files={"build": build} | installed)
    if torch == build:
        assert done.code == 0 and "is installed, and stays" in done.said
    else:
        assert done.code == 2 and done.installed == []
        assert done.said == (
            f"TORCH={torch}: torch {PINS['torch']} is installed, a build for {build}. For another: "
            f"rm -r .venv; make setup TORCH={torch}\n"
        )


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_make_takes_up_a_new_choice_though_all_is_set_up(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    (tmp_path / "scripts").mkdir()
    script = tmp_path / "scripts/make_venv.sh"
    script.write_text("#!/bin/sh\nmkdir -p .venv; echo $TORCH >>log; [ $TORCH != cuda ]\n")
    script.chmod(0o755)

    python = tmp_path / "a folder" / "python"
    python.parent.mkdir()
    python.symlink_to(sys.executable)

    def make(*words: str) -> int:
        command = ["make", f"PYTHON={python}", "setup", *words]
        done = subprocess.run(command, cwd=tmp_path, env={"PATH": os.environ["PATH"]})
        return done.returncode

    assert [make(), make(), make("TORCH=cuda"), make("TORCH=cuda")] == [0, 0, 2, 2]
    assert (tmp_path / "log").read_text().split() == ["auto", "cuda", "cuda"]


@pytest.mark.parametrize(
    "installed",
    [
        packages(torch="1.0+cpu", torchvision="0.1+cpu"),
        packages(torch=f"{PINS['torch']}+cpu"),  # interrupted
        packages(torch=f"{PINS['torch']}+cpu", torchvision=PINS["torchvision"]),
    ],
    ids=["another version", "without torchvision", "torchvision of another build"],
)
def test_what_does_not_fit_together_does_not_stay(setup, installed):
    assert CPU in setup(files={"has_cpu_builds": ""} | installed).installed[0]


def test_torch_may_be_chosen_by_hand(setup):
    assert len(setup(torch="cuda", files=["has_cpu_builds"]).installed) == 1
    chosen = setup(torch="gpu")
    assert chosen.code == 2 and "TORCH=gpu: unknown. Choose auto, cpu or cuda" in chosen.said


def test_cpu_by_hand_never_installs_the_cuda_build(setup):
    done = setup(torch="cpu")
    assert done.code == 2 and "TORCH=cpu: no CPU build of torch" in done.said
    assert done.installed == []


def test_another_folder_than_that_of_the_repository_is_left_as_it_is(setup, tmp_path):
    (tmp_path / "constraints.txt").unlink()
    done = setup()
    assert done.code == 2 and "constraints.txt: not here" in done.said
    assert not (tmp_path / ".venv").exists()


def test_a_package_may_be_installed_into_another_environment(setup, tmp_path):
    done = setup("other", "a.whl", files=["has_cpu_builds"])
    assert (tmp_path / "other/bin/python").exists() and not (tmp_path / ".venv").exists()
    assert CPU in done.installed[0] and done.installed[1].endswith("-c constraints.txt a.whl")


def test_other_systems_have_builds_without_cuda(setup):
    done = setup(programs={"uname": "#!/bin/sh\necho Darwin\n"})
    assert "the build for Darwin" in done.said and len(done.installed) == 1
    done = setup(torch="cuda")
    assert done.code == 2 and "TORCH=cuda: the default build for Darwin has no CUDA" in done.said
