#!/bin/sh
# Create an environment and install this package into it with the pinned versions, with uv where
# there is one, else with pip:
#
#     scripts/make_venv.sh PYTHON [FOLDER [PACKAGE]]      FOLDER: .venv; PACKAGE: a wheel, say
#
# PyPI's torch for Linux brings CUDA libraries of several GB. Without an NVIDIA GPU, the CPU builds
# are taken where they can be had: from the configured index, or, with uv, from PyTorch's own.
# TORCH=cpu or TORCH=cuda decides instead; the pinned torch, if it is in FOLDER already, stays,
# and one of another build than TORCH says is an error. HFFRUITS_SYSTEM is for tests: the root of
# the folders in which a GPU is looked for.
set -eu
python=$1
venv=${2:-.venv}
torch=${TORCH:-auto}
system=${HFFRUITS_SYSTEM:-}
errors=$(mktemp)
trap 'rm -f "$errors"' EXIT

fail() {
    echo "$*" >&2
    exit 2
}

case $torch in
auto | cpu | cuda) ;;
*)
    fail "TORCH=$torch: unknown. Choose auto, cpu or cuda"
    ;;
esac

[ -f constraints.txt ] || fail "constraints.txt: not here. Run this in the folder that has it"

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
        fail "$python can't make environments: run 'sudo apt-get install $package', or install uv"
    fi
}

has_uv() { command -v uv >/dev/null; }

install() {
    if has_uv; then
        uv pip install --python "$venv/bin/python" "$@"
    else
        "$venv/bin/python" -m pip install --quiet --progress-bar on "$@"
    fi
}

choose_torch() {
    installed=$(installed_torch)
    if [ "${installed%%+*}" = "$(pinned torch)" ]; then
        check_build
        echo "torch: $installed is installed, and stays"
    elif [ "$(uname -s)" != Linux ]; then
        if [ "$torch" = cuda ]; then
            fail "TORCH=cuda: the default build for $(uname -s) has no CUDA. See docs/install.md"
        fi
        echo "torch: the build for $(uname -s), which has no CUDA libraries"
    elif [ "$torch" = cuda ]; then
        echo "torch: the default build, as TORCH=cuda says"
    elif [ "$torch" = auto ] && has_nvidia_gpu; then
        echo "torch: the default build, for the NVIDIA GPU of this machine"
    elif install_cpu_torch; then
        echo "torch: the CPU build (for an NVIDIA GPU: rm -r $venv; make setup TORCH=cuda)"
    elif [ "$torch" = cpu ]; then
        fail "TORCH=cpu: no CPU build of torch $(pinned torch). $(remedy)"
    else
        echo "torch: the default build, as there is no CPU build of $(pinned torch) to be had. Its CUDA"
        echo "libraries, of no use without an NVIDIA GPU, take 5 GB of disk. $(remedy)"
    fi
}

# None, too, where torchvision is missing or of another build: an installation was interrupted.
installed_torch() {
    "$venv/bin/python" -c 'from importlib.metadata import version
torch, torchvision = version("torch"), version("torchvision")
print(torch if torch.partition("+")[2] == torchvision.partition("+")[2] else "none")' \
        2>/dev/null || echo none
}

# Of an installed torch, what TORCH names.
check_build() {
    [ "$torch" != auto ] || return 0
    build=$("$venv/bin/python" -c 'from torch import version as v
print("cuda" if v.cuda else "rocm" if v.hip else "cpu")')
    if [ "$build" != "$torch" ]; then
        fail "TORCH=$torch: torch $installed is installed, a build for $build. For another:" \
            "rm -r $venv; make setup TORCH=$torch"
    fi
}

# WSL has nvidia-smi where few PATHs lead. /dev has a GPU only where it can be used: a container
# without it has the driver's files in /proc.
has_nvidia_gpu() {
    (PATH="$PATH:$system/usr/lib/wsl/lib" nvidia-smi --list-gpus) 2>/dev/null | grep -q '^GPU' ||
        [ -e "$system/dev/nvidia0" ]
}

pinned() { sed -n "s/^$1==//p" constraints.txt; }

# Both or neither: torchvision's default build doesn't load beside the CPU build of torch.
install_cpu_torch() {
    echo "torch: looking for the CPU build of $(pinned torch)"
    set -- "torch==$(pinned torch)+cpu" "torchvision==$(pinned torchvision)+cpu"
    if ! offers "$@"; then
        if ! lacks_them; then
            cat "$errors" >&2
            fail "torch: whether there is a CPU build can't be found out (see above)"
        fi
        set -- --torch-backend=cpu torch torchvision
        has_uv && (export UV_HTTP_RETRIES=0 && offers -c constraints.txt "$@") || return 1
    fi
    install -c constraints.txt "$@" || exit
}

# Whether the index has these, asked beforehand, so that the installation itself is seen.
offers() { install --dry-run --no-deps "$@" 2>"$errors"; }

# pip blames the constraints, where there are any.
lacks_them() {
    grep -Eq 'No matching distribution|ResolutionImpossible|No solution found' "$errors" &&
        ! grep -q Retrying "$errors"
}

remedy() {
    if has_uv; then
        reason=$(sed -n 's/^error: //p' "$errors")
        echo "Is PyTorch's index reachable?${reason:+ uv: $reason}"
    else
        echo "To avoid that, see docs/install.md"
    fi
}

create_venv
choose_torch
if [ $# -gt 2 ]; then
    install -c constraints.txt "$3"
else
    install -c constraints.txt -e '.[dev]'
fi
