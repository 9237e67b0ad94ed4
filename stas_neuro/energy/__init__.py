"""What a run costs on a chip: hardware profiles times activity."""

from stas_neuro.energy.profile import Entry, MissingEntry, Profile, list_profiles, load_profile

__all__ = ["Entry", "MissingEntry", "Profile", "list_profiles", "load_profile"]
