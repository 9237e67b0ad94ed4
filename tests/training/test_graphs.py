"""A graph in torch: every spike of the float reference, and the gradients of the torch models."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from support.ir_random import Recipe, build, images_for, recipes
from support.random_models import covering, random_config, random_model

from stas_neuro import compiler
from stas_neuro.errors import InputError
from stas_neuro.ir import Graph, HaltMode, ImageScore
from stas_neuro.models.stas import Output
from stas_neuro.passes import AddHalting, FoldBatchNorm, schedule_decisions
from stas_neuro.reference import run_reference
from stas_neuro.training import floats
from stas_neuro.training.floats import TrainableGraph


def spikes_of(module: TrainableGraph, images: np.ndarray) -> tuple[Output, dict[str, np.ndarray]]:
    """Run a module, and give the spikes of each node of the run: (B, steps, ...)."""
    run = floats._Run(module, torch.from_numpy(images))
    seen: dict[str, list[torch.Tensor]] = {}

    def noting(operator):
        def noted(run, node, inputs):
            outputs = operator(run, node, inputs)
            if node.traits.fires and "s" in outputs:
                seen.setdefault(node.name, []).append(outputs["s"].detach())
            return outputs

        return noted

    run.operators = {op: noting(operator) for op, operator in run.operators.items()}
    output = run.output()
    return output, {name: torch.stack(steps, 1).numpy() for name, steps in seen.items()}


def assert_is_the_reference(graph: Graph, seed: int) -> None:
    images = images_for(graph, 3, seed)
    trace = run_reference(graph, images, record_spikes=True)
    output, spikes = spikes_of(TrainableGraph(graph, torch.float64), images)
    assert spikes.keys() == trace.spikes.keys()
    for name, expected in trace.spikes.items():
        np.testing.assert_array_equal(spikes[name], expected, err_msg=name)
    np.testing.assert_array_equal(output.visits.numpy(), trace.visits)
    np.testing.assert_allclose(output.logits.detach().numpy(), trace.logits, rtol=1e-9, atol=1e-9)


def folded(recipe: Recipe) -> Graph:
    """Build a folded graph; its image halts by the head, as in every network that is trained."""
    graph = build(recipe)
    graph = FoldBatchNorm()(graph) if recipe.norm else graph
    scores = [node.name for node in graph.of_type(ImageScore)]
    copies = {
        f"{name}/{param}": graph.tensor("head", param) for name in scores for param in ("weight", "bias")
    }
    return dataclasses.replace(graph, tensors={**graph.tensors, **copies})


@settings(max_examples=60)
@given(recipe=recipes())
def test_it_computes_what_the_float_reference_does(recipe: Recipe) -> None:
    assert_is_the_reference(folded(recipe), recipe.seed)


@pytest.mark.parametrize("mode", ["raster", "rectangular", "block", "time"])
@pytest.mark.parametrize("head", ["mean", "mean-first"])
def test_so_it_does_where_tokens_halt_before_a_mean(head: str, mode: HaltMode) -> None:
    graph = folded(Recipe(halting="off", head=head, norm=False, seed=1))
    assert_is_the_reference(AddHalting(mode=mode, beta=0.0, epsilon=0.5)(graph), 1)


DESIGN = [choice for choice in covering() if not choice["event_input"] or choice["stem"] != "one-step"]


@pytest.mark.parametrize("number", range(0, len(DESIGN), 5))
def test_gradients_are_those_of_the_torch_model(number: int) -> None:
    """The models' neurons are norse's; logits and the ponder loss have the same gradients in both."""
    config = random_config(DESIGN[number], number)
    model = random_model(config, number, torch.float64)
    graph = compiler.fold(model)
    module = TrainableGraph(graph, torch.float64)
    images = torch.from_numpy(images_for(graph, 4, number))
    for network in (model, module):
        output = network(images)
        factors = torch.linspace(-1, 1, output.logits.numel(), dtype=torch.float64)
        weights = torch.linspace(1, 2, output.soft_visits.numel(), dtype=torch.float64)
        visits = (output.soft_visits.flatten() * weights).sum()
        ((output.logits.flatten() * factors).sum() + output.ponder + visits).backward()
    outputs = model(images), module(images)
    torch.testing.assert_close(outputs[0].ponder, outputs[1].ponder)
    torch.testing.assert_close(outputs[0].soft_visits, outputs[1].soft_visits)
    assert torch.equal(outputs[0].soft_visits.bool(), outputs[0].visits)
    head = module.weights["head/weight"]
    torch.testing.assert_close(head.grad, model.head.weight.grad)
    layers = dict(model.named_modules())
    compared = 0
    for key, name in module.names.items():
        node, _, param = key.rpartition("/")
        # A folded bias has the gradient of the shift of its normalisation.
        parent, _, own = node.rpartition(".")
        norm = layers.get(f"{parent}.{own.replace('conv', 'bn') if own.startswith('conv') else own + '_bn'}")
        if param == "bias" and norm is not None:
            torch.testing.assert_close(module.weights[name].grad, norm.bias.grad, rtol=1e-7, atol=1e-9)
            compared += bool(norm.bias.grad.abs().max() > 0)
    assert compared > 5


def test_gradients_are_the_slopes_of_what_is_smooth() -> None:
    """Behind the last neurons, logits and the ponder loss are smooth while the same tokens halt."""
    recipe = Recipe(membrane=True, norm=False, blocks=1, halting="rectangular", alpha=0.2, beta=-2.0, seed=4)
    graph = build(recipe)
    module = TrainableGraph(graph, torch.float64)
    images = torch.from_numpy(images_for(graph, 3))
    factors = torch.linspace(-1, 1, 3 * recipe.classes, dtype=torch.float64)

    def loss() -> torch.Tensor:
        output = module(images)
        return (output.logits.flatten() * factors).sum() + output.ponder

    loss().backward()
    for key in ("blocks.0.fc2/bias", "blocks.0.fc2/weight", "head/weight", "head/bias"):
        parameter = module.weights[module.names[key]]
        slopes = torch.zeros_like(parameter).flatten()
        for index in range(len(slopes)):
            values = []
            for step in (1e-6, -1e-6):
                with torch.no_grad():
                    parameter.view(-1)[index] += step
                    values.append(loss().item())
                    parameter.view(-1)[index] -= step
            slopes[index] = (values[0] - values[1]) / 2e-6
        torch.testing.assert_close(parameter.grad.flatten(), slopes, rtol=1e-5, atol=1e-6)
        assert parameter.grad.abs().max() > 0


def test_an_image_halts_by_the_head_as_it_is_learnt() -> None:
    graph = AddHalting(mode="image", margin=4.0)(build(Recipe(norm=False, halting="off")))
    module = TrainableGraph(graph, torch.float64)
    with torch.no_grad():
        module.weights[module.names["head/weight"]] *= 0.05
    trained = module.trained()
    np.testing.assert_array_equal(
        trained.tensor("halting.1.score", "weight"), trained.tensor("head", "weight")
    )
    images = images_for(graph, 5)
    visits = [run_reference(each, images).visits for each in (graph, trained)]
    np.testing.assert_array_equal(module(torch.from_numpy(images)).visits.numpy(), visits[1])
    assert visits[1].sum() > visits[0].sum()


def test_refusals() -> None:
    for graph, said in (
        (build(Recipe()), "the graph is traced; train the folded graph"),
        (schedule_decisions(build(Recipe(norm=False)), "pipelined-stale", 2), "are 2 hardware steps late"),
        (
            build(Recipe(norm=False, halting="image")),
            "score0 has other weights than the layer behind the readout",
        ),
    ):
        with pytest.raises(InputError, match=said):
            TrainableGraph(graph)
