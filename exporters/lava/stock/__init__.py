"""The second lowering: a quantised graph as stock Lava processes only, whatever it costs in neurons."""

from .activity import StockCost, cost_of
from .lower import StockNetwork, lower_stock
from .run import run_stock
from .units import RoundSynapticBiases, round_synaptic_biases

__all__ = [
    "RoundSynapticBiases",
    "StockCost",
    "StockNetwork",
    "cost_of",
    "lower_stock",
    "round_synaptic_biases",
    "run_stock",
]
