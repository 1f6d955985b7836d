#!/usr/bin/env bash
# The whole pipeline on generated pictures, at the smoke scale: `make demo` calls this with the folder to use.
#   scripts/demo.sh [OUT] [VARIABLE=VALUE ...]     e.g. scripts/demo.sh runs/demo RATIO=0.1
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${1:-runs/demo}
[ $# -eq 0 ] || shift
make=${MAKE:-make}

start=$SECONDS
"$make" --no-print-directory -f scripts/pipeline.mk SEQRES="${SEQRES:-seqres}" SCALE=smoke OUT="$out" "$@" report
echo "took $(((SECONDS - start) / 60)) min $(((SECONDS - start) % 60)) s"
