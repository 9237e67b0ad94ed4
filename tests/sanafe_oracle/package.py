"""Write a mapped network as a directory that SANA-FE runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sanafe_oracle.architecture import Architecture, Floor, architecture_document
from sanafe_oracle.network import Frames, network_document, spiking_layers
from stas_neuro import __version__
from stas_neuro.files import Output, check_outputs
from stas_neuro.ir import Graph
from stas_neuro.mapping import Mapping

ARCHITECTURE_FILE, NETWORK_FILE, RUN_FILE, RESULT_FILE = "chip.yaml", "network.yaml", "run.py", "result.json"
SANAFE_VERSION = "2.2.9"
RUN = '''"""Run this network on SANA-FE and write what each step did to {result}: python run.py"""

import json
from collections import Counter
from pathlib import Path

import sanafe

here = Path(__file__).resolve().parent
chip_description = sanafe.load_arch(str(here / "{architecture}"))
chip = sanafe.SpikingChip(chip_description)
chip.load(sanafe.load_net(str(here / "{network}"), chip_description))
run = chip.sim({steps}, timing_model="detailed", spike_trace=True, perf_trace=True, message_trace=True)
messages = []
for step in run["message_trace"]:
    sent = Counter()
    for message in step:
        if not message["placeholder"]:
            x, y = (abs(message["src_" + way] - message["dest_" + way]) for way in "xy")
            sent[message["src_neuron_group_id"], x, y] += 1
    messages.append([[*key, count] for key, count in sent.items()])
result = {{
    "steps": run["perf_trace"],
    "fired": [Counter(str(neuron).rsplit(".", 1)[0] for neuron in step) for step in run["spike_trace"]],
    "messages": messages,
}}
(here / "{result}").write_text(json.dumps(result))
print(f"{{run['energy']['total']:.4g}} J, {{run['sim_time']:.4g}} s: see {result}")
'''
README = """# A spiking network for SANA-FE

Exported by stas-neuro {version}: {layers} layers of neurons on {cores} cores, {steps} steps.

    uv run --no-project --with sanafe=={sanafe} python run.py

| file | content |
|---|---|
| `{architecture}` | the chip: tiles, cores, and what each event costs |
| `{network}` | neurons, synapses, the core of each neuron, and the spikes of the input |
| `run.py` | runs them and writes `{result}`: counts and energies a step, spikes and messages by layer |

SANA-FE delivers a spike in the step after the one it is sent in: the first step has input spikes only, and
model step t of the layer that is n-th from the input is step t + n. Input spikes come from a core of the host
in the tile that takes them, without hops, and what is read out ends in neurons that cost nothing.
"""


def hardware_steps(graph: Graph) -> int:
    """Steps of SANA-FE that an inference takes: the input's, then one a layer that a spike passes."""
    return graph.time_steps + len(spiking_layers(graph))


def write_package(
    graph: Graph, mapping: Mapping, costs: Architecture, frames: Frames, target: Path, *, force: bool = False
) -> None:
    """Write chip, network and input as SANA-FE reads them, and a script that runs them.

    Parameters
    ----------
    graph : Graph
        Quantised; what SANA-FE cannot say is refused node by node.
    mapping : Mapping
        Of this graph, on one chip.
    costs : Architecture
    frames : (T, C, H, W) of integers
        Spikes of the input, all of one value.
    target : Path
        A directory; `force` replaces an earlier one.

    Raises
    ------
    InputError
        When SANA-FE cannot say the network or its mapping, or the directory cannot be written.
    """
    output = package_output(target, force=force)
    check_outputs([output])
    floor = Floor.of(mapping.cores)
    network, inputs = network_document(graph, mapping, frames, floor, all_active=costs.all_active)
    names = {"architecture": ARCHITECTURE_FILE, "network": NETWORK_FILE, "result": RESULT_FILE}
    steps = hardware_steps(graph)
    with output.filled() as fresh:
        # JSON is YAML, and read by the same parser.
        _write(fresh / ARCHITECTURE_FILE, architecture_document(costs, floor, inputs))
        _write(fresh / NETWORK_FILE, network)
        (fresh / RUN_FILE).write_text(RUN.format(steps=steps, **names), encoding="utf-8")
        readme = README.format(
            version=__version__,
            layers=len(spiking_layers(graph)),
            cores=len(mapping.cores),
            steps=steps,
            sanafe=SANAFE_VERSION,
            **names,
        )
        (fresh / "README.md").write_text(readme, encoding="utf-8")


def package_output(path: Path, *, force: bool) -> Output:
    """Give the place of a package, for `check_outputs`."""
    return Output.marked(path, RUN_FILE, force=force)


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=None) + "\n", encoding="utf-8")
