"""Search of the deployments of a model on a chip, for those that no other beats."""

from stas_neuro.optimise.confirm import mcnemar, wilson
from stas_neuro.optimise.driver import optimise
from stas_neuro.optimise.frontier import pareto
from stas_neuro.optimise.result import Candidate, Optimised, Point, Price
from stas_neuro.optimise.space import Placing, Space, Variant

__all__ = [
    "Candidate",
    "Optimised",
    "Placing",
    "Point",
    "Price",
    "Space",
    "Variant",
    "mcnemar",
    "optimise",
    "pareto",
    "wilson",
]
