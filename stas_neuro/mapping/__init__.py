"""Mapping of a network's neurons to cores: pieces of layers on the cores of chips."""

from stas_neuro.mapping.mapping import CoreLocation, Mapping, Piece, parse_mapping

__all__ = [
    "CoreLocation",
    "Mapping",
    "Piece",
    "parse_mapping",
]
