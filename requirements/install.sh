#!/bin/sh
# Installs pcan into an environment that has torch already: install.sh PYTHON [WHAT...]
# WHAT is what pip takes; without it this checkout, editable, with its tests.
# By uv, which is several times faster, with lock.txt as constraints; by pip where uv cannot be
# had. Versions and digests are those of lock.txt either way. torch stays as it is: which build of
# it fits the machine is not uv's to choose.
set -eu
python=$1
shift
[ $# -gt 0 ] || set -- --editable '.[test]'
others=$(mktemp)
trap 'rm -f "$others"' EXIT
grep -v '^torch==' requirements/lock.txt >"$others"

if "$python" -m pip install --quiet uv; then
    torch=$("$python" -c 'from importlib.metadata import version; print(version("torch"))')
    echo "torch==$torch" >>"$others"
    "$python" -m uv pip install --quiet --python "$python" --constraint "$others" "$@" && exit 0
    echo "uv could not install; trying pip." >&2
    sed -i '$d' "$others"
fi
"$python" -m pip install --quiet --no-deps --require-hashes --requirement "$others"
"$python" -m pip install --quiet --no-deps "$@"
