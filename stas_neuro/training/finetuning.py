"""Quantisation-aware fine-tuning: train a checkpoint's weights through the resulting integer program."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from stas_neuro import api
from stas_neuro.compiler import choose_scales, fold, load_model, save_scales
from stas_neuro.data import LabelledImages
from stas_neuro.errors import InputError
from stas_neuro.extras import needs
from stas_neuro.training.options import TrainOptions


def fine_tune(
    checkpoint: Path,
    data: LabelledImages,
    bits: int,
    options: TrainOptions,
    directory: Path,
    *,
    resume: bool = False,
    prepare: Callable[[], None] = lambda: None,
    report: api.TrainReport = lambda event: None,
) -> None:
    """Fine-tune a checkpoint to weights of ``bits`` bits, and write a checkpoint to ``directory``.

    Scales are chosen once, on some of the training images, and saved with the checkpoint, so that compiling
    it results in the integer program that was trained. Runs ``options.stage2_epochs`` epochs at a peak
    learning rate of ``options.stage2_rate``. Normalisations are folded first, so their statistics do not
    change.
    ``prepare`` is called before anything is written, while ``directory`` is locked against other trainings.

    Raises
    ------
    InputError
        If the data do not fit the model, bfloat16 is requested, torch is missing, the integers of a layer do
        not fit a core, or another process trains in ``directory``.
    """
    if options.bfloat16:
        raise InputError("bfloat16 cannot represent the integers of a program", "remove --bfloat16")
    model = load_model(checkpoint)
    folded = fold(model)
    with needs("torch"):
        from stas_neuro.models.checkpoint import TrainingRecord, save_checkpoint
        from stas_neuro.models.folding import set_folded
        from stas_neuro.training.integers import program_of
        from stas_neuro.training.train import fit, split, train_program
    fit(model.config, data, options, model.config.class_names)
    chosen = choose_scales(folded, split(data, options)[0], bits=bits)
    program = program_of(model.config, folded, chosen, fuse=options.compile)
    tensors = program.graph.tensors.values()
    origin = hashlib.sha256(b"".join(tensor.tobytes() for tensor in tensors)).digest()
    settings = replace(options, stage1_epochs=0)

    def save(record: TrainingRecord) -> None:
        set_folded(model, program.held())
        save_checkpoint(model, directory, record)
        save_scales(chosen, directory)

    train_program(
        program,
        data,
        settings,
        directory,
        checkpoint,
        origin,
        save=save,
        resume=resume,
        prepare=prepare,
        report=report,
    )
