"""Profiles of the catalogue, and TOML files with others: found, read and validated."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import fields
from functools import cache
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stas_neuro.chips.entries import UNITS
from stas_neuro.chips.faults import BadProfile, structural_faults
from stas_neuro.chips.inheritance import KEY, inherit
from stas_neuro.chips.profile import SCHEMA_VERSION, Capability, Entry, Profile, Source
from stas_neuro.chips.quantities import plain_numbers
from stas_neuro.chips.settings import BY_USER, Values, with_values
from stas_neuro.documents import shown
from stas_neuro.errors import InputError, unknown
from stas_neuro.files import read_bytes, toml_table

if TYPE_CHECKING:
    from pydantic import TypeAdapter

CHAIN_LIMIT = 16
"""Largest number of profiles in a chain of `extends`."""
_REMEDY = "correct the profile (schema: docs/profiles.md)"

PROFILE_FOLDERS = "stas_neuro.profiles"
"""Entry point group by which other packages add profiles: each names a package with .toml files."""


def list_profiles() -> tuple[str, ...]:
    """Return the names of the profiles in the catalogue, including those that other packages add."""
    return tuple(sorted(_catalogue()))


def _catalogue() -> dict[str, Any]:
    """Return the files of the catalogue by name; other packages cannot replace a built-in profile."""
    found = _own_profiles()
    for folder in (point.value for point in entry_points(group=PROFILE_FOLDERS)):
        try:
            items = list(files(folder).iterdir())
        except (ImportError, OSError) as error:
            what = f"the folder of profiles {folder} cannot be read: {error}"
            raise InputError(what, "update the package that registers it, or uninstall it") from error
        for name, item in _profiles(items).items():
            found.setdefault(name, item)
    return found


def _own_profiles() -> dict[str, Any]:
    """Return the files of the built-in profiles by name."""
    return _profiles(files("stas_neuro.hw_profiles").iterdir())


def _profiles(items: Iterable[Any]) -> dict[str, Any]:
    return {item.name.removesuffix(".toml"): item for item in items if item.name.endswith(".toml")}


def profile_path(given: Profile | str | Path | None) -> Path | None:
    """Return the path of the file that `load_profile` reads; None for a catalogue profile, and for None."""
    if isinstance(given, Path) or (isinstance(given, str) and given.endswith(".toml")):
        return Path(given)
    return None


def load_profile(
    profile: Profile | str | Path, values: Values | None = None, *, source: str = BY_USER
) -> Profile:
    """Load a profile, and set values in it.

    Parameters
    ----------
    profile : Profile, str or Path
        The name of a profile of the catalogue, a TOML file by path (a Path, or a str ending in .toml), or a
        profile, which is returned.
    values : mapping, optional
        Values to set: ``{"energy.synaptic_operation": "20 pJ"}``, see `with_values`.
    source : str
        Who set them, in reports.

    Raises
    ------
    InputError
        When there is no such profile, or its file or one that it extends is invalid. The message names the
        file and every fault.
    """
    if isinstance(profile, Profile):
        loaded = profile
    else:
        content, where = _read(profile)
        loaded = parse_profile(content, where)
    return with_values(loaded, values or {}, source)


def load_profiles(
    profiles: Profile | str | Path | Iterable[Profile | str | Path] | None,
    values: Values | None = None,
    *,
    source: str = BY_USER,
) -> list[Profile]:
    """Load several profiles as `load_profile` does, or a single one; None and "all" stand for the catalogue.

    Raises
    ------
    InputError
        As `load_profile`; or if there are none.
    """
    if profiles is None or (isinstance(profiles, str) and profiles == "all"):
        profiles = list_profiles()
    elif isinstance(profiles, Profile | str | Path) or not isinstance(profiles, Iterable):
        profiles = [profiles]
    loaded = [load_profile(each, values, source=source) for each in profiles]
    if not loaded:
        raise InputError("there are no profiles", "give at least one")
    return loaded


def parse_profile(content: bytes, where: str) -> Profile:
    """Make a profile from the bytes of a TOML file.

    `where` is the path of the file: errors name it, and the path of an extended profile is relative to it.
    """
    return _validated(_document(content, where, ()), where)


def _read(name_or_path: object) -> tuple[bytes, str]:
    """Return the bytes of a profile, and its name in errors."""
    if not isinstance(name_or_path, str | Path):
        what = f"{shown(repr(name_or_path))} is no profile"
        raise InputError(what, "give a Profile, the name of one, or the path of a .toml file")
    if (path := profile_path(name_or_path)) is not None:
        return read_bytes(path), str(name_or_path)
    known = _own_profiles()
    if name_or_path not in known:  # else without a search through all packages
        known = _catalogue()
    if name_or_path not in known:
        raise unknown("profile", name_or_path, sorted(known), "the path of a .toml file")
    resource = known[str(name_or_path)]
    return resource.read_bytes(), str(resource)


def _document(content: bytes, where: str, children: tuple[str, ...]) -> dict[str, Any]:
    """Return the document of a file with its inherited entries; `children` are the files that extend it."""
    document = toml_table(content, where, _REMEDY)
    version = document.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise InputError(
            f"{where}: schema_version is {version}, this version supports {SCHEMA_VERSION}",
            "use a newer stas-neuro",
        )
    if "inherited" in document:
        raise InputError(f"{where}: inherited is not allowed in files", _REMEDY)
    parent = document.get(KEY)
    if not isinstance(parent, str):
        return document
    if "\0" in parent:
        raise InputError(f"{where}: {KEY} is {parent!r}", "use the name of a profile or the path of its file")
    chain = (*children, os.path.realpath(where))
    if len(chain) > CHAIN_LIMIT:
        what = f"{where}: more than {CHAIN_LIMIT} profiles extend each other"
        raise InputError(what, "merge them into fewer files")
    location = Path(os.path.realpath(Path(where).parent / parent)) if parent.endswith(".toml") else parent
    try:
        above, place = _read(location)
    except InputError as error:
        raise InputError(f"{' extends '.join((*chain, parent))}: {error.what}", error.remedy) from error
    if os.path.realpath(place) in chain:
        cycle = " extends ".join((*chain, os.path.realpath(place)))
        raise InputError(f"{cycle}: a cycle", "remove one of the extends")
    inherited = _document(above, place, chain)
    _validated(inherited, place)
    return inherit(document, inherited, where)


def _validated(document: dict[str, Any], where: str) -> Profile:
    """Make a profile of the document of a file; BadProfile with everything that is wrong with it.

    Parts of a wrong type are replaced, so that the others are checked too.
    """
    from pydantic import ValidationError  # slow to import, and only files need it

    document, faults = plain_numbers(document)
    try:
        while True:
            try:
                profile = _adapter().validate_json(json.dumps(document).encode(), strict=True)
                break
            except ValidationError as error:
                errors = error.errors(include_url=False)
                faults += structural_faults(errors, _FIELDS)
                for each in errors:
                    _replace(document, [str(part) for part in each["loc"]])
    except BadProfile as rest:
        faults += rest.faults
    if faults:
        raise BadProfile(where, faults)
    return profile


@cache
def _adapter() -> TypeAdapter[Profile]:
    from pydantic import TypeAdapter

    return TypeAdapter(Profile)


_FIELDS: Mapping[str, tuple[str, ...]] = {
    section: tuple(each.name for each in fields(cls))
    for section, cls in {
        "": Profile,
        "capabilities": Capability,
        "sources": Source,
        **dict.fromkeys(UNITS, Entry),
    }.items()
}
"""Keys of a file, and of an entry by section."""
_STAND_INS: Mapping[str, Any] = {
    "schema_version": SCHEMA_VERSION,
    "name": "unnamed",
    "title": "untitled",
    "graded_spikes": False,
    "step_law": "sum",
    "static_scope": "core",
}
"""Replacements of keys that are missing or wrong, with which the others are checked."""


def _replace(document: dict[str, Any], place: list[str]) -> None:
    """Replace or remove what has a fault of its type."""
    key = place[0]
    if key in _STAND_INS:
        document[key] = _STAND_INS[key]
    elif len(place) > 1 and isinstance(document.get(key), dict):
        part = dict(document[key])
        part.pop(place[1], None)
        # Entries that name this source have no fault of their own.
        document[key] = part | ({place[1]: {"citation": "?"}} if key == "sources" else {})
    else:
        document.pop(key, None)
