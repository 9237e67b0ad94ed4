#!/usr/bin/env bash
# Retrains the shipped models and their baselines, in some hours on two cores; an interrupted run is continued.
#   [SEED=0] [IMAGES=60000] bash examples/train_shipped.sh [DIRECTORY [MODEL...]]
set -euo pipefail
out=${1:-runs/shipped}
models=("${@:2}")
[ ${#models[@]} -gt 0 ] || models=(fashion-spikformer fashion-spikingformer fashion-t1 fashion-t2)
# Large activations are allocated at every step: keep their memory instead of returning it to the system each time.
export MALLOC_MMAP_THRESHOLD_=4000000000 MALLOC_TRIM_THRESHOLD_=8000000000 MALLOC_TOP_PAD_=500000000

fit() {
    stas-export train --data fashion-mnist --seed "${SEED:-0}" ${IMAGES:+--limit "$IMAGES"} --compile --threads 1 --resume "$@"
}
train() {
    fit --bfloat16 "$@"
}
stage1() { # OUTPUT EPOCHS OPTIONS...
    train -o "$out/$1" --stage1-epochs "$2" --stage2-epochs 0 --stage1-rate 0.006 "${@:3}"
}
stage2() { # FROM OUTPUT EPOCHS OPTIONS..., at the same rate with and without halting
    train --init "$out/$1" -o "$out/$2" --stage1-epochs 0 --stage2-epochs "$3" --stage2-rate 0.002 --augment none "${@:4}"
}
tuned() { # MODEL BITS: fine-tune the model to integers, in a subdirectory
    fit --init "$out/$1" --qat "$2" -o "$out/$1/$2bit" --stage2-epochs 1 --stage2-rate 0.002 --augment none
}
with_stage1() { # STAGE1 MODEL: copy the model without halting into a subdirectory of the one with halting
    mkdir -p "$out/$2/stage1"
    cp "$out/$1"/{config.json,model.safetensors,log.jsonl} "$out/$2/stage1/"
}

# Train halting with a strong ponder loss, then recover accuracy with a weak one; the tokens keep halting.
fashion-spikformer() {
    stage1 fashion-stage1 14 --preset fashion
    stage2 fashion-stage1 fashion-strong 5 --preset fashion --ponder-weight 0.04 --ponder-ramp 0.2
    stage2 fashion-strong fashion-spikformer 9 --preset fashion --ponder-weight 0.003 --ponder-ramp 0
    with_stage1 fashion-stage1 fashion-spikformer
    tuned fashion-spikformer 4
}
fashion-spikingformer() {
    stage1 spikingformer-stage1 8 --preset fashion-spikingformer
    stage2 spikingformer-stage1 fashion-spikingformer 5 --preset fashion-spikingformer --ponder-weight 0.1 --ponder-ramp 0.2
    with_stage1 spikingformer-stage1 fashion-spikingformer
    tuned fashion-spikingformer 4
}
# Baselines with the same number of epochs: a model with one time step, and stage 1 of the first model retrained for two.
fashion-t1() {
    stage1 t1-stage1 14 --preset fashion --time-steps 1 --accumulate off
    stage2 t1-stage1 fashion-t1 14 --preset fashion --time-steps 1 --accumulate off
}
fashion-t2() {
    stage1 fashion-stage1 14 --preset fashion
    stage2 fashion-stage1 fashion-t2 14 --preset fashion --time-steps 2 --accumulate off
}

for model in "${models[@]}"; do
    "$model"
done
