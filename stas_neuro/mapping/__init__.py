"""Where the neurons of a network are: pieces of layers on the cores of chips."""

from stas_neuro.mapping.mapping import Mapping, Piece, Site, parse_mapping
from stas_neuro.mapping.neurons import check_mapping, extent, owners, works_in
from stas_neuro.mapping.routes import Arrival, Route, Routes, needed, routes

__all__ = [
    "Arrival",
    "Mapping",
    "Piece",
    "Route",
    "Routes",
    "Site",
    "check_mapping",
    "extent",
    "needed",
    "owners",
    "parse_mapping",
    "routes",
    "works_in",
]
