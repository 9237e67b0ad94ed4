"""Where the neurons of a network are: pieces of layers on the cores of chips."""

from stas_neuro.mapping.mapping import Mapping, Piece, Site, parse_mapping

__all__ = ["Mapping", "Piece", "Site", "parse_mapping"]
