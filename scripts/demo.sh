#!/usr/bin/env bash
# The whole pipeline on generated pictures, at the smoke scale: `make demo` calls this with the folder to use.
#   scripts/demo.sh [OUT] [VARIABLE=VALUE ...]     e.g. scripts/demo.sh runs/demo RATIO=0.1
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
out=${1:-runs/demo}
[ $# -eq 0 ] || shift
make=${MAKE:-make}
# Branches run side by side and share the cores; more than four are never open at once
cores=$(nproc 2> /dev/null || getconf _NPROCESSORS_ONLN)
jobs=$((cores < 4 ? cores : 4))
export OMP_NUM_THREADS=$((cores / jobs))

start=$SECONDS
call=(-j "$jobs" --no-print-directory -f scripts/pipeline.mk OUT="$out")
case $out in
  -* | *[!A-Za-z0-9_./+,@-]*) # make takes names apart at blanks and some signs: go there, and call it "."
    case $out in /*) ;; *) out=./$out ;; esac
    bash scripts/made.sh begin "$out"
    call=(-j "$jobs" --no-print-directory -C "$out" -f "$PWD/scripts/pipeline.mk" OUT=.)
    ;;
esac
"$make" "${call[@]}" SEQRES="${SEQRES:-seqres}" SCALE=smoke CORES="$cores" "$@" report
echo "took $(((SECONDS - start) / 60)) min $(((SECONDS - start) % 60)) s"
