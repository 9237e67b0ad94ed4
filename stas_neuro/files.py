"""Reading and writing of files: validated on the way in, never half-written on the way out.

What cannot be written in the end is refused before the work, by `check_outputs`.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations, product
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
        raise _unwritable(path, error) from error


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


@dataclass(frozen=True, kw_only=True)
class Output:
    """A place to write to, and what may be replaced there: by `force` an earlier output of the kind.

    Parameters
    ----------
    path : Path
        A file, or a directory that appears whole; a link stands for what it leads to.
    is_earlier : callable
        Tells of the path, where something is, whether that is an earlier output of the kind.
    otherwise : str
        What errors say of something else there: "is no certificate".
    force : bool
    is_directory : bool
        An empty directory is free for one, and so is one that only a lock is in.
    in_place : bool
        Whether files are written into a directory that is there, instead of replacing it.
    instead : str
        What errors say can be done about an earlier output, but for choosing another path.
    """

    path: Path
    is_earlier: Callable[[Path], bool]
    otherwise: str
    force: bool
    is_directory: bool = False
    in_place: bool = False
    instead: str = "use --force to replace it"

    @classmethod
    def marked(cls, path: Path, marker: str, *, force: bool) -> Output:
        """Make that of a directory whose earlier outputs have a file named `marker`."""
        return cls(
            path=path,
            is_earlier=lambda found: (found / marker).is_file(),
            otherwise=f"has no {marker}",
            force=force,
            is_directory=True,
        )

    @property
    def target(self) -> Path:
        """The path with links resolved."""
        return Path(os.path.realpath(self.path))

    def check_free(self) -> None:
        """Raise InputError where something is that may not be replaced."""
        try:
            if not self.path.exists():
                return
            if (
                self.is_directory
                and self.path.is_dir()
                and {each.name for each in self.path.iterdir()} <= {LOCK_FILE}
            ):
                return
            earlier = self.is_earlier(self.path)
        except OSError as error:
            raise _unwritable(self.path, error) from error
        if not earlier:
            raise InputError(f"{self.path} exists and {self.otherwise}", "choose another path")
        if not self.force:
            raise InputError(f"{self.path} exists", f"choose another path or {self.instead}")

    def write(self, content: bytes) -> None:
        """Write a file, whole or not at all; what has appeared there meanwhile is not replaced either."""
        self.check_free()
        write_atomically(self.target, content)

    @contextmanager
    def filled(self) -> Iterator[Path]:
        """Give a directory to fill that becomes the output when the block ends well: whole or not at all.

        Raises
        ------
        InputError
            As `check_outputs` says, before the block; after it when something has appeared there meanwhile,
            or when it cannot be written (a full disk).
        """
        check_outputs([self])
        target = self.target
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
                fresh, old = Path(scratch) / "new", Path(scratch) / "old"
                fresh.mkdir()
                try:
                    yield fresh
                except InputError as error:  # of a file in it, whose place is soon gone
                    raise InputError(error.what.replace(str(fresh), str(target)), error.remedy) from error
                self.check_free()
                if self.force and target.exists():
                    target.rename(old)
                try:
                    fresh.rename(target)  # fails where anything but an empty directory is
                except OSError:
                    if old.exists():
                        old.rename(target)
                    raise
        except OSError as error:
            raise _unwritable(target, error) from error


def check_outputs(outputs: Iterable[Output | None], *, reads: Iterable[str | Path | None] = ()) -> None:
    """Refuse, before any work, what could not be written after it; None stands for an output not asked for.

    Parameters
    ----------
    outputs : iterable of Output
        All that will be written.
    reads : iterable of str or Path
        Files and directories that are read for it; those that do not exist are no business of this.

    Raises
    ------
    InputError
        When something is at a place that may not be replaced, two outputs are in one place, an output and
        what is read lie in each other, or a place cannot be written.
    """
    asked = [output for output in outputs if output is not None]
    for output in asked:
        output.check_free()
    for first, second in combinations(asked, 2):
        if (how := _overlap(second.target, first.target)) is not None:
            raise InputError(f"{second.path} {how} {first.path}, another output", "choose another path")
    given = [path for path in reads if path is not None and os.path.exists(path)]
    for output, path in product(asked, given):
        if (how := _overlap(output.target, Path(os.path.realpath(path)))) is not None:
            raise InputError(f"{output.path} {how} {path}, which is read", "choose another path")
    for output in asked:
        _check_writable(output)


def _overlap(path: Path, other: Path) -> str | None:
    """Say how two resolved paths lie in each other, if they do."""
    if path == other:
        return "is"
    if other in path.parents:
        return "is inside"
    return "contains" if path in other.parents else None


def _check_writable(output: Output) -> None:
    """Try to make what writing makes first: missing directories, and a name beside the output's."""
    target = output.target
    wanted = above = target if output.in_place else target.parent
    try:
        while not above.exists():
            above = above.parent
        with tempfile.TemporaryDirectory(dir=above, prefix=f".{target.name}.") as scratch:
            (Path(scratch) / wanted.relative_to(above)).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(output.path, error) from error


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: {error.strerror or error}", "choose a place that can be written")


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
