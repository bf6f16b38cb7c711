#!/bin/sh
# Writes lock.txt from an environment: names, versions, digests of every wheel and source archive;
# no addresses. torch has its version alone, since its builds differ; installers, and what torch
# brings by its own rules, have none: lock.sh PYTHON
set -eu
python=$1
pins=$(mktemp)
trap 'rm -f "$pins"' EXIT
"$python" -m uv pip freeze --quiet --python "$python" --exclude-editable |
    grep -v -E '^(torch|triton|uv|pip|setuptools|nvidia-[a-z0-9-]*|cuda-[a-z-]*)==' >"$pins"
{
    echo "# Made by \`make lock\`. What \`make setup\` installs; users of a wheel have pyproject's ranges."
    "$python" -c 'from importlib.metadata import version; print("torch==" + version("torch").split("+")[0])'
    "$python" -m uv pip compile --quiet --no-deps --generate-hashes --no-annotate --no-header \
        --no-emit-index-url --no-emit-find-links --python-version 3.11 "$pins"
} >requirements/lock.txt.new
mv requirements/lock.txt.new requirements/lock.txt
