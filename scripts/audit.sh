#!/usr/bin/env bash
# Known vulnerabilities of the packages in constraints.txt, by pip-audit in an environment that goes away in the end.
#   scripts/audit.sh [PYTHON]
# Asks PyPI about every package, so it needs the network; a package that it cannot learn about is a failure as well.
set -euo pipefail
python=${1:-python3}
cd "$(dirname "${BASH_SOURCE[0]}")/.."
environment=$(mktemp -d)
trap 'rm -rf "$environment"' EXIT
"$python" -m venv "$environment"
"$environment/bin/python" -m pip install --quiet pip-audit
"$environment/bin/pip-audit" --requirement constraints.txt --no-deps --disable-pip --strict --progress-spinner off
