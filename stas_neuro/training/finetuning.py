"""Fine-tuning: a checkpoint to integers, or any float graph, with halting that is added or in integers."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stas_neuro.bundle import FINE_TUNING, Bundle, save_bundle
from stas_neuro.compiler import choose_scales, fold, load_model, save_scales
from stas_neuro.compiler.compilation import recorded
from stas_neuro.compiler.model import FOLDING
from stas_neuro.compiler.opened import Opened
from stas_neuro.data import LabelledImages
from stas_neuro.errors import InputError
from stas_neuro.extras import needs
from stas_neuro.ir import Graph, Stage
from stas_neuro.passes import AddHalting, Pass, Quantise, run_passes
from stas_neuro.training.options import Target, TrainOptions

if TYPE_CHECKING:
    from stas_neuro.models.checkpoint import TrainingRecord
    from stas_neuro.models.stas import StasModel
    from stas_neuro.training.execution import GraphModule

RESULT = "trained.zip"
"""Name of the bundle in the directory of a training that started from a graph."""


def tune_checkpoint(
    checkpoint: Path, data: LabelledImages, bits: int, options: TrainOptions, target: Target
) -> StasModel:
    """Fine-tune a checkpoint to weights of ``bits`` bits, and write a checkpoint to the directory.

    Scales are chosen once, on some of the training images, and saved with the checkpoint, so that compiling
    it results in the integer program that was trained. Runs ``options.stage2_epochs`` epochs at a peak
    learning rate of ``options.stage2_rate``. Normalisations are folded first, so their statistics do not
    change.

    Raises
    ------
    InputError
        If the data do not fit the model, bfloat16 is requested, torch is missing, the integers of a layer do
        not fit a core, or another process trains in the directory.
    """
    _refuse_bfloat16(options)
    model = load_model(checkpoint)
    with needs("torch"):
        from stas_neuro.models.checkpoint import load_training, save_checkpoint
        from stas_neuro.models.folding import set_folded
        from stas_neuro.training.integers import program_of
        from stas_neuro.training.train import Start, train_graph
    folded = fold(model)
    chosen = _scales(folded, data, bits, options)
    program = program_of(folded, chosen, fuse=options.compile)

    def tuned() -> StasModel:
        set_folded(model, program.held())
        return model

    def save(record: TrainingRecord) -> None:
        save_checkpoint(tuned(), target.directory, record)
        save_scales(chosen, target.directory)

    train_graph(program, data, options, target, Start(str(checkpoint), load_training(checkpoint)), save)
    return tuned()


def tune_graph(
    opened: Opened,
    data: LabelledImages,
    options: TrainOptions,
    target: Target,
    *,
    halting: AddHalting | None = None,
    bits: int | None = None,
) -> Bundle:
    """Fine-tune a float graph, and write a bundle (`RESULT`) to the directory.

    Normalisations are folded, and ``halting``, if given, is added first. Weights and biases are trained,
    ``options.stage2_epochs`` epochs at a peak learning rate of ``options.stage2_rate``; thresholds, time
    constants and the parameters of scores stay. With ``bits`` they are trained through the integer program,
    which the bundle then has too.

    Returns
    -------
    Bundle
        What was written.

    Raises
    ------
    InputError
        If the network is no float graph, halting cannot be added to it, the data do not fit it, bfloat16 is
        requested, torch is missing, the integers of a layer do not fit a core, or another process trains in
        the directory.
    """
    _refuse_bfloat16(options)
    if not isinstance(opened.network, Graph):
        raise InputError("the network has no float graph to train", "give the graph that it was made from")
    with needs("torch"):
        from stas_neuro.training.floats import TrainableGraph
        from stas_neuro.training.integers import program_of
        from stas_neuro.training.train import Start, fit_graph, train_graph
    passes: list[Pass] = [*FOLDING] if opened.network.stage == Stage.TRACED else []
    passes += [halting] if halting is not None else []
    graph = run_passes(opened.network, passes)
    fit_graph(graph, data, options)
    chosen = None if bits is None else _scales(graph, data, bits, options)
    module: GraphModule = TrainableGraph(graph, fuse=options.compile)
    if chosen is not None:
        module = program_of(graph, chosen, fuse=options.compile)

    def result(record: TrainingRecord) -> Bundle:
        made = [recorded(each) for each in passes]
        made.append({"pass": FINE_TUNING, **_settings(options), **asdict(record)})
        trained = module.trained()
        if chosen is None:
            return Bundle(trained, opened.provenance(made, {}), {})
        origin = opened.provenance([*made, recorded(chosen)], {"bits": chosen.bits})
        return Bundle(trained, origin, {}, chosen(trained))

    def save(record: TrainingRecord) -> None:
        made = result(record)
        path = target.directory / RESULT
        save_bundle(made.graph, path, made.provenance, quantised=made.quantised, force=True)

    start = Start(opened.source or "the network", _record_of(opened))
    return result(train_graph(module, data, options, target, start, save))


def _refuse_bfloat16(options: TrainOptions) -> None:
    if options.bfloat16:
        raise InputError("bfloat16 cannot represent the values of a graph", "remove --bfloat16")


def _scales(graph: Graph, data: LabelledImages, bits: int, options: TrainOptions) -> Quantise:
    """Choose scales for a graph on some of the images that it will be trained on."""
    with needs("torch"):
        from stas_neuro.training.train import fit_graph, split
    fit_graph(graph, data, options)
    return choose_scales(graph, split(data, options)[0], bits=bits)


def _settings(options: TrainOptions) -> dict[str, Any]:
    """Return the options that took effect, to record them."""
    names = ["batch_size", "weight_decay", "label_smoothing", "ponder_weight", "ponder_ramp", "augment"]
    names += ["zombie_weight"] if options.zombie_weight else []
    names += ["ponder_profile", "ponder_mode"] if options.ponder_profile else []
    used = {name: getattr(options, name) for name in names}
    return {"epochs": options.stage2_epochs, "rate": options.stage2_rate, **used}


def _record_of(opened: Opened) -> TrainingRecord | None:
    """Return the record of the fine-tuning that a network comes from, if its bundle has one."""
    with needs("torch"):
        from stas_neuro.models.checkpoint import TrainingRecord
    given = {} if opened.training is None else opened.training
    names = [field.name for field in fields(TrainingRecord)]
    if not all(name in given for name in names):
        return None
    return TrainingRecord(**{name: given[name] for name in names})
