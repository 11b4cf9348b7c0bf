#!/bin/sh
# Create an environment and install this package into it with the pinned versions, with uv where
# there is one, else with pip:
#
#     scripts/make_venv.sh PYTHON [FOLDER [PACKAGE]]      FOLDER: .venv; PACKAGE: a wheel, say
#
# PyPI's torch for Linux brings CUDA libraries of several GB. Without an NVIDIA GPU, the CPU builds
# are taken where they can be had: from the configured index, or, with uv, from PyTorch's own.
# TORCH=cpu or TORCH=cuda decides instead; the pinned torch, if it is in FOLDER already, stays.
set -eu
python=$1
venv=${2:-.venv}
torch=${TORCH:-auto}
case $torch in
auto | cpu | cuda) ;;
*)
    echo "TORCH=$torch: unknown. Choose auto, cpu or cuda" >&2
    exit 2
    ;;
esac

create_venv() {
    if has_uv; then
        uv venv --quiet --allow-existing --python "$python" "$venv"
        return
    fi
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        install_venv_package
    fi
    "$python" -m venv "$venv"
}

# Debian has `venv` in a separate package: install it as root.
install_venv_package() {
    package="python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "Installing $package, which $python needs to make environments"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$package"
    else
        echo "$python can't make environments: run 'sudo apt-get install $package', or install uv" >&2
        exit 2
    fi
}

has_uv() { command -v uv >/dev/null; }

install() {
    if has_uv; then
        uv pip install --python "$venv/bin/python" -c constraints.txt "$@"
    else
        "$venv/bin/python" -m pip install --quiet --progress-bar on -c constraints.txt "$@"
    fi
}

choose_torch() {
    installed=$(installed_torch)
    if [ "${installed%%+*}" = "$(pinned torch)" ]; then
        echo "torch: $installed is installed, and stays"
    elif [ "$(uname -s)" != Linux ]; then
        echo "torch: the build for $(uname -s), which has no CUDA libraries"
    elif [ "$torch" = cuda ]; then
        echo "torch: the default build, as TORCH=cuda says"
    elif [ "$torch" = auto ] && has_nvidia_gpu; then
        echo "torch: the default build, for the NVIDIA GPU of this machine"
    elif install_cpu_torch; then
        echo "torch: the CPU build (for an NVIDIA GPU: rm -r $venv; make setup TORCH=cuda)"
    elif [ "$torch" = cpu ]; then
        echo "TORCH=cpu: no CPU build of torch $(pinned torch). $(remedy)" >&2
        exit 2
    else
        echo "torch: the default build, as there is no CPU build of $(pinned torch) to be had. Its CUDA"
        echo "libraries, of no use without an NVIDIA GPU, take 5 GB of disk. $(remedy)"
    fi
}

installed_torch() {
    "$venv/bin/python" -c 'from importlib.metadata import version; print(version("torch"))' \
        2>/dev/null || echo none
}

has_nvidia_gpu() {
    [ -e /proc/driver/nvidia/version ] || nvidia-smi --list-gpus 2>/dev/null | grep -q '^GPU'
}

pinned() { sed -n "s/^$1==//p" constraints.txt; }

# Both or neither: torchvision's default build doesn't load beside the CPU build of torch.
install_cpu_torch() {
    echo "torch: looking for the CPU build of $(pinned torch)"
    if install "torch==$(pinned torch)+cpu" "torchvision==$(pinned torchvision)+cpu" 2>/dev/null
    then return 0; fi
    has_uv && UV_HTTP_RETRIES=0 install --torch-backend=cpu torch torchvision 2>/dev/null
}

remedy() {
    if has_uv; then
        echo "Is PyTorch's index reachable?"
    else
        echo "To avoid that, see docs/install.md"
    fi
}

create_venv
choose_torch
if [ $# -gt 2 ]; then install "$3"; else install -e '.[dev]'; fi
