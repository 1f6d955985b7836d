#!/usr/bin/env bash
# The wheel, built and installed as anybody would, works far from the checkout: options, recipes, templates, shipped weights.
#   scripts/wheel_check.sh [PYTHON]
# Builds from a copy of the sources, so that nothing is left in the checkout. The environment gets the versions of
# constraints.txt and no developer tool; both go away in the end.
set -euo pipefail
python=${1:-python3}
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=$("$python" -c "import sys; print(sys.executable)")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset PYTHONPATH
export OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONNOUSERSITE=1

mkdir "$work/source" "$work/elsewhere"
cp -r pyproject.toml README.md LICENSE constraints.txt seqres_cli stages "$work/source"
find "$work/source" -name __pycache__ -prune -exec rm -rf {} +
cd "$work"
(cd source && find seqres_cli stages -type f) | sort > sources
"$python" -m venv environment
pip=(environment/bin/python -m pip --quiet)
"${pip[@]}" wheel --no-deps --wheel-dir . ./source
environment/bin/python -c 'import sys, zipfile; print(*zipfile.ZipFile(sys.argv[1]).namelist(), sep="\n")' seqres-*.whl | sort > packed
missing=$(comm -23 sources packed)
[ -z "$missing" ] || { printf 'not in the wheel:\n%s\n' "$missing" >&2; exit 1; }
"${pip[@]}" install --no-compile --constraint source/constraints.txt seqres-*.whl
environment/bin/python -m pip check
rm -rf source

cd elsewhere
seqres() { ../environment/bin/seqres "$@" --quiet > said || { cat said >&2; echo "failed: seqres $*" >&2; exit 1; }; }
../environment/bin/seqres --help > said
seqres prepare-data --source refshapes --scale tiny --out data.h5
seqres split-masks --dataset data.h5 --ratio 0.2 --out split.h5
seqres train-rec --dataset data.h5 --config refshapes-tiny --epochs 1 --steps-per-epoch 1 --validation-expressions 2 --out rec.h5
seqres evaluate --dataset data.h5 --model rec.h5 --max-expressions 4 --out eval.h5
seqres report data.h5 split.h5 rec.h5 eval.h5 --out page
grep -q '</html>' page/index.html
echo "the wheel works: $(basename ../seqres-*.whl), $(wc -l < ../packed) files"
