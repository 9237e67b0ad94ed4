"""Hardware profiles (costs, limits and capabilities of a chip), and the needs of a network on a chip."""

from stas_neuro.chips.capabilities import Finding, Severity
from stas_neuro.chips.errors import CannotRun
from stas_neuro.chips.profile import (
    Arithmetic,
    Capability,
    Entry,
    MissingEntry,
    Profile,
    Source,
    list_profiles,
    load_profile,
    parse_profile,
)

__all__ = [
    "Arithmetic",
    "CannotRun",
    "Capability",
    "Entry",
    "Finding",
    "MissingEntry",
    "Profile",
    "Severity",
    "Source",
    "list_profiles",
    "load_profile",
    "parse_profile",
]
