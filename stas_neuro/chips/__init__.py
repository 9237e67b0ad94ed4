"""Hardware profiles (costs, limits and capabilities of a chip), and the needs of a network on a chip."""

from stas_neuro.chips.capabilities import Finding, Severity
from stas_neuro.chips.catalogue import list_profiles, load_profile, load_profiles, parse_profile, profile_path
from stas_neuro.chips.errors import CannotRun
from stas_neuro.chips.faults import BadProfile, Fault
from stas_neuro.chips.profile import Arithmetic, Capability, Entry, MissingEntry, Profile, Source
from stas_neuro.chips.settings import (
    ON_COMMAND_LINE,
    Values,
    parse_settings,
    settings_of,
    values_set,
    with_values,
)

__all__ = [
    "ON_COMMAND_LINE",
    "Arithmetic",
    "BadProfile",
    "CannotRun",
    "Capability",
    "Entry",
    "Fault",
    "Finding",
    "MissingEntry",
    "Profile",
    "Severity",
    "Source",
    "Values",
    "list_profiles",
    "load_profile",
    "load_profiles",
    "parse_profile",
    "parse_settings",
    "profile_path",
    "settings_of",
    "values_set",
    "with_values",
]
