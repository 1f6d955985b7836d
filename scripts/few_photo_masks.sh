#!/usr/bin/env bash
# Masks for real photographs of which few have one, REFER layout, two cores, no weights from elsewhere.
#   scripts/few_photo_masks.sh ROOT [OUT]
# Shapes that wear parts of the photographs teach what an outline is; then a third of the masks of the training referents
# is shown, all other referents are drawn in their known boxes, and redrawn along edges of colour. Prints what the drawings
# are worth against the masks that were hidden. Fails when the box filled, or the ellipse in it, would have been better.
# ROOT holds images/…, refcoco/refs(unc).p + instances.json and refcocog/refs(umd).p + instances.json.
set -euo pipefail

usage="usage: scripts/few_photo_masks.sh ROOT [OUT]"
root=${1:?$usage}
out=${2:-runs/few_photo_masks}
[ -d "$root" ] || { echo "no such folder: $root" >&2; exit 3; }
case $out in -*) out=./$out ;; esac # no option
here=$(cd "$(dirname "$0")" && pwd)

# ------------------------------------------------------------------ what may be tuned
seqres=${SEQRES:-seqres}
python=${PYTHON:-python3}
sets=${SETS:-refcoco/unc refcocog/umd}
seeds=${SEEDS:-0 1 2}
ratio=${RATIO:-0.34}
scale=${SCALE:-smoke}
short="--epochs 1 --warmup-epochs 0.1"
look="--sequence box-contour --zoom 112 --box-only-images 0 --batch-images 8 --mirror 0.5 --colour 0.4 --zoom-jitter 0.25"
rec_flags=${REC_FLAGS:-$short --steps-per-epoch 300 --lr 0.003}
shapes_flags=${SHAPES_FLAGS:-$look $short --steps-per-epoch 900 --lr 0.002 --sentences-per-image 3 --rotate 180}
photo_flags=${PHOTO_FLAGS:-$look --epochs 1 --steps-per-epoch 250 --lr 0.001 --rotate 15 --paste 0.5 --mask-images 4 --ellipse-weight 0.3 --validation-sentences 1}
# no audit: what was hidden is measured below
pseudo_flags=${PSEUDO_FLAGS:---sentences-per-referent 1 --audit-split train}
select_flags="--fit box --between curve --n-points 80 --score-threshold 2"

run() {
  echo
  echo "seqres $*"
  "$seqres" "$@"
}

# ------------------------------------------------------------------ outlines, learned from shapes
mkdir -p "$out"
run prepare-data --source refshapes --scale "$scale" --textures "$root/images" --out "$out/shapes.h5"
run split-masks --dataset "$out/shapes.h5" --ratio 1.0 --out "$out/all.h5"
# shellcheck disable=SC2086  # the flags are lists of words
run train-rec --dataset "$out/shapes.h5" $rec_flags --out "$out/rec.h5"
# shellcheck disable=SC2086
run train-res --dataset "$out/shapes.h5" --split "$out/all.h5" --rec "$out/rec.h5" $shapes_flags --out "$out/shapes-res.h5"

# ------------------------------------------------------------------ few masks of photographs
drawn=() refined=()
for set in $sets; do
  name=${set%/*} by=${set#*/}
  to=$out/$name-$by
  mkdir -p "$to"
  run prepare-data --source refer --root "$root" --name "$name" --by "$by" --embed-images --out "$to/dataset.h5"
  for seed in $seeds; do
    run split-masks --dataset "$to/dataset.h5" --ratio "$ratio" --seed "$seed" --out "$to/split$seed.h5"
    # shellcheck disable=SC2086
    run train-res --dataset "$to/dataset.h5" --split "$to/split$seed.h5" --rec "$out/rec.h5" --init "$out/shapes-res.h5" \
      $photo_flags --seed "$seed" --out "$to/res$seed.h5"
    # shellcheck disable=SC2086
    run pseudo-label --dataset "$to/dataset.h5" --split "$to/split$seed.h5" --model "$to/res$seed.h5" --box-prompt \
      $pseudo_flags --out "$to/pseudo$seed.h5"
    run refine-masks --dataset "$to/dataset.h5" --pseudo "$to/pseudo$seed.h5" --out "$to/refined$seed.h5"
    # every outline, stretched to its box
    for kind in pseudo refined; do
      run resample-points --dataset "$to/dataset.h5" --pseudo "$to/$kind$seed.h5" $select_flags --out "$to/$kind-points$seed.h5"
    done
    drawn+=("$to/dataset.h5" "$to/pseudo$seed.h5" "$to/pseudo-points$seed.h5")
    refined+=("$to/dataset.h5" "$to/refined$seed.h5" "$to/refined-points$seed.h5")
  done
  first=${seeds%% *}
  run visualize-attention --dataset "$to/dataset.h5" --split "$to/split$first.h5" --model "$to/res$first.h5" \
    --pseudo "$to/refined$first.h5" --points "$to/refined-points$first.h5" --split-name train --samples 4 --pseudo-samples 16 \
    --show-hidden --out "$to/attention.h5"
  echo "pictures: $to/attention_figures/index.html"
done

echo
echo "as the model drew them, stretched to their boxes:"
"$python" "$here/audit_pseudo.py" "${drawn[@]}" | tee "$out/hidden-drawn.tsv"
echo "redrawn along edges of colour:"
"$python" "$here/audit_pseudo.py" "${refined[@]}" | tee "$out/hidden.tsv"
# the last line: outlines (column 5) against the ellipse and the filled box of the same referents (6 and 7)
tail -n 1 "$out/hidden.tsv" | awk -F '\t' '{ exit !($5 > $6 && $5 > $7) }' ||
  { echo "the drawings are not better than the ellipse in the box, or the box" >&2; exit 1; }
