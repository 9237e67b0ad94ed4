"""Search of the deployments of a model on a chip, for those that no other beats."""

from stas_neuro.optimiser.choice import Choice
from stas_neuro.optimiser.confirm import mcnemar, wilson
from stas_neuro.optimiser.driver import optimise, optimise_all, targets_of
from stas_neuro.optimiser.frontier import pareto
from stas_neuro.optimiser.result import Candidate, Optimised, Point, Price
from stas_neuro.optimiser.search import Target
from stas_neuro.optimiser.space import Placing, Space, Variant

__all__ = [
    "Candidate",
    "Choice",
    "Optimised",
    "Placing",
    "Point",
    "Price",
    "Space",
    "Target",
    "Variant",
    "mcnemar",
    "optimise",
    "optimise_all",
    "pareto",
    "targets_of",
    "wilson",
]
