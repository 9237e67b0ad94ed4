"""Mapping of a network's neurons to cores: pieces of layers on the cores of chips."""

from stas_neuro.mapping.check import check_mapping
from stas_neuro.mapping.mapping import CoreLocation, Mapping, Piece, parse_mapping
from stas_neuro.mapping.routes import Arrival, Route, Routes, needed, routes

__all__ = [
    "Arrival",
    "CoreLocation",
    "Mapping",
    "Piece",
    "Route",
    "Routes",
    "check_mapping",
    "needed",
    "parse_mapping",
    "routes",
]
