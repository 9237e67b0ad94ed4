"""Reading and writing of small files: validated on the way in, never half-written on the way out."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from stas_neuro.documents import BadDocument, open_file, shown
from stas_neuro.documents import parse_json as parse_plain_json
from stas_neuro.documents import parse_toml as parse_plain_toml
from stas_neuro.errors import InputError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

LOCK_FILE = ".lock"
"""What `locked_directory` locks; a process that was killed leaves it behind, unlocked."""

T = TypeVar("T")
_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {}
"""Made once a class: that takes longer than most files take to check."""


SIZE_LIMIT = 1 << 32
"""Bytes of any file that is read whole."""


def read_bytes(path: Path, most: int = SIZE_LIMIT) -> bytes:
    """Read a regular file of at most `most` bytes; InputError names it where that fails."""
    try:
        with open_file(path, most) as stream:
            return stream.read()
    except BadDocument as error:
        where = str(path) if str(path).isprintable() else repr(str(path))
        raise InputError(f"{where}: {error}", "give a regular file of the right kind") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}", "give a file that can be read") from error


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new one and nothing between."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(name, 0o666 & ~umask)  # mkstemp makes files that only their owner may read
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror or error}", "choose a place that can be written"
        ) from error


@contextmanager
def locked_directory(directory: Path, use: str) -> Iterator[None]:
    """Keep a directory, which is made if need be, to this process while the block runs.

    The lock is the operating system's: it goes with the process, however that ends.

    Raises
    ------
    InputError
        If another process has it (`use` says for what), or it cannot be locked.
    """
    path = directory / LOCK_FILE
    try:
        directory.mkdir(parents=True, exist_ok=True)
        stream = _lock(path)
        while not _is_open_at(stream, path):  # whoever had it has removed the file since we opened it
            stream.close()
            stream = _lock(path)
    except BlockingIOError as error:
        remedy = "wait until it has ended, or choose another directory"
        raise InputError(f"{directory}: {use} is running there", remedy) from error
    except OSError as error:
        remedy = "choose a place that can be written, on a file system that can lock files"
        raise InputError(f"{directory}: {error.strerror or error}", remedy) from error
    with stream:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # before it is unlocked: nobody else can have locked it


def _lock(path: Path) -> BinaryIO:
    """Open a file and lock it, or raise BlockingIOError where another process has locked it."""
    stream = path.open("ab")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        stream.close()
        raise
    return stream


def _is_open_at(stream: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except FileNotFoundError:
        return False


def check_free(target: Path, *, marker: str, force: bool) -> None:
    """Refuse a place where something is, unless by `force` and it is an earlier output, which has `marker`.

    Raises
    ------
    InputError
        Naming the place; an empty directory is free.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not (target / marker).is_file():
        raise InputError(f"{target} exists and has no {marker}", "choose another path")
    if not force:
        raise InputError(f"{target} exists", "choose another path or use --force to replace it")


@contextmanager
def appearing_directory(target: Path, *, marker: str, force: bool) -> Iterator[Path]:
    """Give a directory to fill that becomes `target` when the block ends well: whole or not at all.

    Raises
    ------
    InputError
        As `check_free` says, before the block, or when it cannot be written (a full disk, no permission).
    """
    check_free(target, marker=marker, force=force)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
            fresh, old = Path(scratch) / "new", Path(scratch) / "old"
            fresh.mkdir()
            try:
                yield fresh
            except InputError as error:  # of a file in it, whose place is soon gone
                raise InputError(error.what.replace(str(fresh), str(target)), error.remedy) from error
            if target.exists():
                target.rename(old)
            try:
                fresh.rename(target)
            except OSError:
                if old.exists():
                    old.rename(target)
                raise
    except OSError as error:
        raise InputError(
            f"{target}: {error.strerror or error}", "choose a place that can be written"
        ) from error


def toml_table(content: bytes, where: str, remedy: str) -> dict[str, Any]:
    """Parse TOML to plain data (`documents.parse_toml`); InputError names `where` and the place."""
    try:
        return parse_plain_toml(content)
    except BadDocument as error:
        raise InputError(f"{where}: {error}", remedy) from error


def json_object(content: bytes, where: str, remedy: str) -> dict[str, Any]:
    """Parse a JSON object to plain data (`documents.parse_json`); InputError names `where` and the place."""
    try:
        document = parse_plain_json(content)
        if not isinstance(document, dict):
            raise BadDocument("holds no JSON object")
    except BadDocument as error:
        raise InputError(f"{where}: {error}", remedy) from error
    return document


def check_version(document: Mapping[str, Any], version: int, where: str) -> None:
    """Refuse a document whose `schema_version` is another; of a newer one no other field can be judged."""
    found = document.get("schema_version")
    if type(found) is not int or found != version:
        what = f"{where}: schema_version is {shown(repr(found))}, this version reads {version}"
        raise InputError(what, "use the version of stas-neuro that wrote it, or a newer one")


def parse_json(
    cls: type[T],
    text: bytes,
    where: str,
    remedy: str,
    check: Callable[[dict[str, Any]], None] = lambda document: None,
) -> T:
    """Make a (nested) dataclass from JSON, strictly: no coercion, no unknown fields where it forbids them.

    The text is what `documents.parse_json` takes. `check` is given the plain object before its fields are
    looked at; it raises InputError where these have another meaning.

    Raises
    ------
    InputError
        Names `where`, the first field that is wrong and what is wrong with it, and how many more there are.
    """
    from pydantic import TypeAdapter, ValidationError  # slow to import, and only files need it

    check(json_object(text, where, remedy))
    if cls not in _ADAPTERS:
        _ADAPTERS[cls] = TypeAdapter(cls)
    try:
        parsed: T = _ADAPTERS[cls].validate_json(text, strict=True)
        return parsed
    except ValidationError as error:
        first, *more = error.errors(include_url=False)
        field = ".".join(str(part) for part in first["loc"]) or "the whole"
        others = f" (and {len(more)} more problems)" if more else ""
        raise InputError(f"{where}: {field}: {first['msg']}{others}", remedy) from error
    except InputError as error:  # from a __post_init__, which does not know where its values come from
        raise InputError(f"{where}: {error.what}", error.remedy) from error
