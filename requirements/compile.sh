#!/usr/bin/env bash
# Locks every set with hashes, for all platforms and Python 3.11 or newer, without naming a package index.
set -euo pipefail
cd "$(dirname "$0")"
for name in runtime worker cpu cuda build fuzz dev docs; do
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --no-annotate --custom-compile-command "bash requirements/compile.sh" "$name.in" -o "$name.txt"
done
