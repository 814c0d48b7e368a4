#!/bin/sh
# Make the environment in the folder given: a virtual environment with exactly the locked packages.
set -eu
venv=$1
python=${PYTHON:-python3}
if ! "$python" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "error: Python 3.11 or newer is needed; '$python' is not" >&2
    echo "hint: on Debian 12: apt-get install python3 python3-venv (or set PYTHON=/path/to/python3.11)" >&2
    exit 1
fi
if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "python3-venv is missing; installing it" >&2
        apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
    else
        echo "error: this Python has no venv module" >&2
        echo "hint: on Debian 12: apt-get install python3-venv" >&2
        exit 1
    fi
fi
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install -q --disable-pip-version-check --no-input -c contrib/constraints.txt 'setuptools>=77' wheel
"$venv/bin/python" -m pip install -q --disable-pip-version-check --no-input --no-build-isolation -c contrib/constraints.txt -e '.[dev,paper]'
# Programs start faster when their modules are compiled, also for users who may not write here.
"$venv/bin/python" -m compileall -q ibs
