#!/usr/bin/env bash
# The paper's CIFAR-10 setting within MINUTES of one GPU, on a machine that may stop a command after
# ten minutes. Call it again until it says "recorded": each call goes on where the last one stopped.
#
#     NVP_DATA=/data workflow/gpu_cifar10.sh 22 [more options of nvp train]
#
# These options give it Muon, its schedule, the norm and the first scales of the recorded run
# cifar10-small:
#
#     --set training.optimiser=muon --set training.relative_step=0.02 \
#     --set training.learning_rate=2e-3 --set training.tanh_scale_rate=3 \
#     --set training.warmup_steps=200 --set training.anneal=0.7 \
#     --set model.checkerboard_scale_init=1.0 --set model.norm_running_average=false
#
# It needs a Python that has torch and the packages of pyproject.toml, and cifar10 under NVP_DATA
# (not --data-root, which recording does not see). It needs no network. The last call scores the run
# into results/runs/cifar10. It puts into OUT (build/gpu) the same entry and the weights in half
# precision, in parts to be put together by `cat weights.part-* > weights.safetensors`. Without git,
# NVP_COMMIT should name the commit.
set -euo pipefail
cd "$(dirname "$0")/.."

minutes=${1:?usage: workflow/gpu_cifar10.sh MINUTES [options of nvp train]}
shift
out=${OUT:-build/gpu}
run=build/runs/cifar10
python=${PYTHON:-python3}
export PYTHONUNBUFFERED=1

# The paper names no schedule; so short a run needs one that ends. Eight and a half minutes a call
# leave time to score. Then SIGTERM makes it save the step that it is at; were the machine itself
# stopped, what is lost is the minute since the last checkpoint.
status=0
timeout "${PIECE_SECONDS:-510}" "$python" -m nvp.cli train configs/cifar10.yaml \
  --run-folder "$run" --set training.steps=null --set training.minutes="$minutes" \
  --set training.precision=bf16 --set training.anneal=0.5 --set training.checkpoint_minutes=1 "$@" || status=$?
if [ "$status" -eq 124 ]; then
  [ ! -e "$run/log.csv" ] || tail -n 1 "$run/log.csv"
  echo "stopped after ${PIECE_SECONDS:-510} seconds: call again to go on"
  exit 0
elif [ "$status" -ne 0 ]; then
  exit "$status"
fi

"$python" -m nvp.cli record "$run" --no-weights --replace
mkdir -p "$out"
cp results/runs/cifar10/* "$out/"
"$python" - "$run" "$out" <<'PYTHON'
import sys
from pathlib import Path

from nvp.runs.load import load_run
from nvp.runs.tensors import halved, save_tensors

run, out = load_run(Path(sys.argv[1])), Path(sys.argv[2])
header = {"config": run.config.model_dump(mode="json")}
save_tensors(out / "weights.safetensors", halved(run.model), header)
PYTHON
rm -f "$out"/weights.part-*  # of an earlier run
split --bytes=15M "$out/weights.safetensors" "$out/weights.part-"
rm "$out/weights.safetensors"
echo "recorded: see $out"
