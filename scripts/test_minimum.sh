#!/usr/bin/env bash
# The tests with the lowest versions that pyproject.toml allows, in an environment that goes away in the end.
#   scripts/test_minimum.sh [PYTHON] [PYTEST ARGUMENT …]
set -euo pipefail
python=${1:-python3}
cd "$(dirname "${BASH_SOURCE[0]}")/.."
environment=$(mktemp -d)
trap 'rm -rf "$environment"' EXIT
unset PYTHONPATH
export OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONNOUSERSITE=1

"$python" -m venv "$environment"
"$environment/bin/python" -m pip install --quiet --requirement constraints-min.txt
"$environment/bin/python" -m pip check
"$environment/bin/python" -m pytest "${@:2}"
