#!/usr/bin/env bash
# Trains the shipped models anew, in some hours on two cores; each run goes on where it was ended.
#   bash examples/train_shipped.sh [DIRECTORY]
set -euo pipefail
out=${1:-runs/shipped}
# Large activations come and go at every step: keep their memory instead of returning it to the system each time.
export MALLOC_MMAP_THRESHOLD_=4000000000 MALLOC_TRIM_THRESHOLD_=8000000000 MALLOC_TOP_PAD_=500000000

train() {
    stas-export train --data fashion-mnist --bfloat16 --compile --threads 1 --resume "$@"
}
stage1() { # EPOCHS
    echo --stage1-epochs "$1" --stage2-epochs 0 --stage1-rate 0.006
}
stage2() { # EPOCHS, at the same rate whether it halts or not
    echo --stage1-epochs 0 --stage2-epochs "$1" --stage2-rate 0.002 --no-augment
}

# shellcheck disable=SC2046 # the options are meant to be split
{
    train --preset fashion $(stage1 10) -o "$out/fashion-stage1"
    # Halting is taught with a strong ponder loss, then accuracy won back with a weak one; the tokens keep halting.
    train --preset fashion $(stage2 6) --ponder-weight 0.04 --ponder-ramp 0.2 --init "$out/fashion-stage1" \
        -o "$out/fashion-strong"
    train --preset fashion $(stage2 4) --ponder-weight 0.003 --ponder-ramp 0 --init "$out/fashion-strong" \
        -o "$out/fashion-spikformer"

    train --preset fashion-spikingformer $(stage1 8) -o "$out/spikingformer-stage1"
    train --preset fashion-spikingformer $(stage2 5) --ponder-weight 0.1 --ponder-ramp 0.2 --init "$out/spikingformer-stage1" \
        -o "$out/fashion-spikingformer"

    mkdir -p "$out/fashion-spikformer/stage1" "$out/fashion-spikingformer/stage1"
    cp "$out"/fashion-stage1/{config.json,model.safetensors,log.jsonl} "$out/fashion-spikformer/stage1/"
    cp "$out"/spikingformer-stage1/{config.json,model.safetensors,log.jsonl} "$out/fashion-spikingformer/stage1/"

    # Rivals: a model of one time step, and the first one's stage 1 retrained for two steps.
    train --preset fashion --time-steps 1 --accumulate off $(stage1 10) -o "$out/t1-stage1"
    train --preset fashion --time-steps 1 --accumulate off $(stage2 6) --init "$out/t1-stage1" -o "$out/fashion-t1"
    train --preset fashion --time-steps 2 --accumulate off $(stage2 6) --init "$out/fashion-stage1" -o "$out/fashion-t2"
}
