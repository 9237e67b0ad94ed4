"""A plain interpreter of graphs in numpy: what every other backend is checked against."""

from stas_neuro.reference.activity import Counting
from stas_neuro.reference.interpreter import count_on_cores, run_reference

__all__ = ["Counting", "count_on_cores", "run_reference"]
