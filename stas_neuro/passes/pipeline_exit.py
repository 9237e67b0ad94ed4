"""Image halting on a pipeline: model steps overlap until the image exits."""

from __future__ import annotations

from dataclasses import dataclass, replace

from stas_neuro.errors import InputError
from stas_neuro.ir import POLICIES, Graph
from stas_neuro.passes.compute_halted import unmasked


@dataclass(frozen=True)
class PipelineExit:
    """Take the masks of image halting off the blocks, so that no model step waits for the one before.

    When an image exits, later model steps are in the pipeline already. They are computed until the run ends,
    and nothing reads them: the score, the readout and the accumulator keep their masks. An exit depends on no
    later step, so logits and visits are those of the network before.

    Raises
    ------
    InputError
        When the graph does not halt by image.
    """

    def __call__(self, graph: Graph) -> Graph:
        """Return the rewritten graph, of the same stage."""
        policy = POLICIES.get(graph.halting)
        if policy is None or not policy.by_image:
            what = f"halting is {graph.halting}, and only that of a whole image leaves its blocks unmasked"
            raise InputError(what, "use halting image")
        kept = tuple(node for node in graph.nodes if not node.traits.gates_tokens)
        return replace(graph, nodes=kept, edges=tuple(moved for _, moved in unmasked(graph)))
