#!/bin/sh
# Create .venv with the given Python. Debian has `venv` in a separate package: install it as root.
set -eu
python=$1
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    package="python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "Installing $package, which $python needs to make .venv"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$package"
    else
        echo "$python can't make .venv: run 'sudo apt-get install $package', or install uv" >&2
        exit 2
    fi
fi
"$python" -m venv .venv
