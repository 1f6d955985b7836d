#!/usr/bin/env bash
# A few steps of the full-size model with the released recipe, on photographs in REFER layout: does its loss go down?
#   scripts/full_size_steps.sh ROOT [OUT]
# ROOT holds images/… and refcoco/refs(unc).p + instances.json. prepare-data, split-masks, then train-rec and train-res
# of partial-res-darknet53: 640 px, large-scale jitter, warm-up of five epochs, step schedule, moving average, every
# number of the recipe but the batch, and short epochs, so that the warm-up is crossed. Prints the mean loss of every
# epoch, seconds a step and peak memory. Fails (1) when a loss did not go down or a stage took more than MEMORY_GB.
# Measured: docs/BENCHMARKS.md, "Full size".
set -euo pipefail

usage="usage: scripts/full_size_steps.sh ROOT [OUT]"
root=${1:?$usage}
out=${2:-runs/full_size}
[ -d "$root" ] || { echo "no such folder: $root" >&2; exit 3; }
case $out in -*) out=./$out ;; esac # no option

# ------------------------------------------------------------------ what may be tuned
seqres=${SEQRES:-seqres}
python=${PYTHON:-python3}
memory_gb=${MEMORY_GB:-24}
rec_steps=${REC_STEPS:-5 epochs of 4}
res_steps=${RES_STEPS:-8 epochs of 6}
rec_flags=${REC_FLAGS:-} # for instance --backbone yolov3.weights; the trunk is random without it
recipe="--config partial-res-darknet53 --batch-images ${BATCH_IMAGES:-4} --workers 0"
recipe+=" --validate-every 1000 --validation-expressions 1" # the last epoch is always scored; here that is for show

mkdir -p "$out"
failed=0

# run NAME WORDS… : the command, its messages in OUT/NAME.log; leaves its peak memory in kB in OUT/NAME.peak
run() {
  local name=$1
  shift
  echo "seqres $*"
  "$python" -c '
import resource, subprocess, sys
peak, log, *command = sys.argv[1:]
with open(log, "w") as stream:
    done = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT)
with open(peak, "w") as stream:
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=stream)
sys.exit(done.returncode)' "$out/$name.peak" "$out/$name.log" "$seqres" "$@" || {
    local code=$?
    cat "$out/$name.log" >&2
    exit "$code"
  }
}

# judge NAME "E epochs of N" : the losses of a training log; fails when they did not go down
judge() {
  "$python" -c '
import re, sys
name, log, peak, steps, most = sys.argv[1:]
rows = re.findall(r"^epoch \d+, loss ([\d.]+).*, seconds ([\d.]+)$", open(log).read(), re.M)
losses = [float(loss) for loss, _ in rows]
peak, per_step = int(open(peak).read()) / 2**20, float(rows[-1][1]) / (len(rows) * int(steps))
n = max(1, len(losses) // 4)
first, last = sum(losses[:n]) / n, sum(losses[-n:]) / n
print(f"  {name}: loss of each epoch", *(f"{loss:.3f}" for loss in losses))
print(f"  {name}: first {n * int(steps)} steps {first:.3f}, last {n * int(steps)} steps {last:.3f}")
print(f"  {name}: {per_step:.1f} s a step, peak memory {peak:.1f} GiB")
if not last < first:
    sys.exit(f"{name}: the loss did not go down")
if peak > float(most):
    sys.exit(f"{name}: more than {most} GiB of memory")' "$1" "$out/$1.log" "$out/$1.peak" "${2##* }" "$memory_gb" || failed=1
}

# ------------------------------------------------------------------ the four stages
run prepare prepare-data --source refer --root "$root" --name refcoco --by unc --embed-images --out "$out/dataset.h5"
run split split-masks --dataset "$out/dataset.h5" --ratio 1.0 --out "$out/split.h5"
# shellcheck disable=SC2086  # the flags are lists of words
run train-rec train-rec --dataset "$out/dataset.h5" $recipe --epochs "${rec_steps%% *}" \
  --steps-per-epoch "${rec_steps##* }" $rec_flags --force --out "$out/rec.h5"
judge train-rec "$rec_steps"
# shellcheck disable=SC2086
run train-res train-res --dataset "$out/dataset.h5" --split "$out/split.h5" --rec "$out/rec.h5" $recipe \
  --epochs "${res_steps%% *}" --steps-per-epoch "${res_steps##* }" --force --out "$out/res.h5"
judge train-res "$res_steps"
exit $failed
