"""From graphs to their schedule and connections, and to connected processes."""

from __future__ import annotations

import logging

from support.ir_random import Recipe, build, images_for

from stas_neuro.exporters.lava.assemble import assembled
from stas_neuro.exporters.lava.lava_api import ProcessServer
from stas_neuro.exporters.lava.processes import FIXED_POINT, FLOATING_POINT, PROCESSES, Run
from stas_neuro.exporters.lava.schedule import DELAYED, EACH, HELD, Schedule, Window, connections
from stas_neuro.ir import Graph, HaltingScore

FOLDED = Recipe(norm=False)


def edge(graph: Graph, target: str, port: str) -> tuple[str, str, int]:
    (found,) = [each for each in connections(graph) if (each.dst, each.dst_port) == (target, port)]
    return found.src, found.src_port, found.delay


def test_scores_get_the_mask_of_their_accumulator_and_nothing_else_is_added() -> None:
    graph = build(FOLDED)
    assert edge(graph, "score0", "alive") == edge(graph, "halt0", "alive") == ("halt1", "alive", 1)
    assert edge(graph, "score1", "alive") == edge(graph, "halt1", "alive") == ("halt0", "alive", 0)
    assert connections(graph)[: len(graph.edges)] == graph.edges
    assert len(connections(graph)) - len(graph.edges) == len(graph.of_type(HaltingScore))
    unmasked = build(Recipe(norm=False, halting="rectangular"))
    assert ("score0", "alive") not in {(each.dst, each.dst_port) for each in connections(unmasked)}


def test_every_process_has_a_model_in_either_arithmetic() -> None:
    for models, tagged in ((FLOATING_POINT, "floating_pt"), (FIXED_POINT, "fixed_pt")):
        assert set(models) == set(PROCESSES.values())
        for process, model in models.items():
            assert model.implements_process is process and tagged in model.tags


def test_one_step_networks_take_t_lava_steps_an_image() -> None:
    schedule = Schedule.of(build(FOLDED))
    assert schedule.period == 3
    assert schedule.windows["stem.conv0"] == schedule.windows["stem.tokens"] == Window(0, 1)
    assert schedule.windows["blocks.0.q"] == schedule.windows["readout"] == Window(0, 3)
    assert schedule.windows["head"] == schedule.windows["output"] == Window(2, 1)


def test_integrating_stems_put_t_steps_before() -> None:
    schedule = Schedule.of(build(Recipe(norm=False, stem="max")))
    assert schedule.period == 6
    assert schedule.windows["stem.conv0"] == Window(0, 1)  # of a still image: once, before the stem's steps
    assert schedule.windows["stem.lif0"] == schedule.windows["stem.integrate"] == Window(0, 3)
    assert schedule.windows["stem.conv1"] == schedule.windows["stem.tokens"] == Window(2, 1)
    assert schedule.windows["blocks.0.q"] == schedule.windows["readout"] == Window(3, 3)
    assert schedule.windows["head"] == Window(5, 1)


def test_how_messages_arrive() -> None:
    graph = build(Recipe(norm=False, stem="max"))
    schedule = Schedule.of(graph)

    def arrival(target: str, port: str) -> str:
        found = graph.inputs(target)[port]
        return schedule.arrival(found, graph.node(found.src))

    assert arrival("stem.lif0", "x") == HELD
    assert arrival("stem.integrate", "x") == EACH
    assert arrival("stem.conv1", "x") == HELD
    assert arrival("blocks.0.gate", "x") == HELD
    assert arrival("blocks.0.gate", "mask") == DELAYED
    assert arrival("blocks.1.gate", "mask") == EACH
    assert arrival("head", "x") == HELD


def test_lava_keeps_nothing_of_a_run_that_is_over() -> None:
    graph = build(FOLDED)
    server, handlers = list(ProcessServer().processes), list(logging.getLogger().handlers)
    with assembled(graph, images_for(graph, 1), Run(images=1, period=3)) as assembly:
        assert len(assembly.processes) == len(graph.nodes)
        assert len(ProcessServer().processes) == len(server) + len(graph.nodes)
    assert ProcessServer().processes == server
    assert logging.getLogger().handlers == handlers
