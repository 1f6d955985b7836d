#!/usr/bin/env bash
# All eight stages on real photographs in REFER layout, small config, two cores, minutes.
#   scripts/real_photos.sh ROOT [OUT]
# ROOT holds images/…, refcoco/refs(unc).p + instances.json and refcocog/refs(umd).p + instances.json. The model is
# meant to overfit the few masks of the training split: a check that nothing between a photograph and a drawn
# contour is broken, not a benchmark. Fails when the masks it was trained on are not reproduced.
set -euo pipefail

usage="usage: scripts/real_photos.sh ROOT [OUT]"
root=${1:?$usage}
out=${2:-runs/real_photos}
[ -d "$root" ] || { echo "no such folder: $root" >&2; exit 3; }
case $out in -*) out=./$out ;; esac # no option

# ------------------------------------------------------------------ what may be tuned
seqres=${SEQRES:-seqres}
python=${PYTHON:-python3}
sets=${SETS:-refcoco/unc refcocog/umd}
least_miou=${LEAST_MIOU:-0.80}
image_size=${IMAGE_SIZE:-160}
steps="--epochs 1 --batch-images 8 --ema-decay 0.98 --label-smoothing 0 --colour 0 --validation-expressions 20"
rec_flags=${REC_FLAGS:-$steps --steps-per-epoch 500 --expressions-per-image 2}
res_flags=${RES_FLAGS:-$steps --steps-per-epoch 300 --zoom 112 --zoom-jitter 0.1 --box-only-images 0}
second_flags=${SECOND_FLAGS:-$steps --steps-per-epoch 850 --n-points 28 --zoom 112 --zoom-jitter 0.1 --box-only-images 0 --pseudo-weight 0.2}

# ------------------------------------------------------------------ the eight stages
run() {
  echo
  echo "seqres $*"
  "$seqres" "$@"
}

# mean IoU of the model's masks on the training split, out of the evaluation's summary
train_miou() {
  "$seqres" inspect --json "$1" |
    "$python" -c 'import json, sys; print(json.load(sys.stdin)["summary"]["splits"]["train"]["res"]["model"]["miou"])'
}

failed=0
for set in $sets; do
  name=${set%/*} by=${set#*/}
  to=$out/$name-$by
  mkdir -p "$to"
  run prepare-data --source refer --root "$root" --name "$name" --by "$by" --embed-images --out "$to/dataset.h5"
  run split-masks --dataset "$to/dataset.h5" --ratio 1.0 --out "$to/split.h5"
  # shellcheck disable=SC2086  # the flags are lists of words
  run train-rec --dataset "$to/dataset.h5" --image-size "$image_size" $rec_flags --out "$to/rec.h5"
  # shellcheck disable=SC2086
  run train-res --dataset "$to/dataset.h5" --split "$to/split.h5" --rec "$to/rec.h5" $res_flags --out "$to/first.h5"
  run pseudo-label --dataset "$to/dataset.h5" --split "$to/split.h5" --model "$to/first.h5" --out "$to/pseudo.h5"
  run resample-points --dataset "$to/dataset.h5" --pseudo "$to/pseudo.h5" --out "$to/points.h5"
  # shellcheck disable=SC2086
  run train-res --dataset "$to/dataset.h5" --split "$to/split.h5" --rec "$to/rec.h5" --points "$to/points.h5" $second_flags --out "$to/final.h5"
  run evaluate --dataset "$to/dataset.h5" --split "$to/split.h5" --model "$to/final.h5" --splits train --out "$to/train.h5"
  run visualize-attention --dataset "$to/dataset.h5" --split "$to/split.h5" --model "$to/final.h5" \
    --compare-model "$to/first.h5" --pseudo "$to/pseudo.h5" --points "$to/points.h5" \
    --split-name train --with-mask --samples 12 --out "$to/attention.h5"

  miou=$(train_miou "$to/train.h5")
  echo
  echo "$set: mIoU on the masks it was trained with: $miou (at least $least_miou)"
  echo "$set: pictures: $to/attention_figures/index.html"
  "$python" -c 'import sys; sys.exit(float(sys.argv[1]) < float(sys.argv[2]))' "$miou" "$least_miou" || failed=1
done
if [ $failed -ne 0 ]; then
  echo "at least one set is below mIoU $least_miou on its training masks" >&2
fi
exit $failed
