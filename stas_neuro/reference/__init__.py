"""A plain interpreter of graphs in numpy: what every other backend is checked against."""

from stas_neuro.reference.interpreter import run_reference

__all__ = ["run_reference"]
