"""Validated reading and atomic writing of files.

`check_outputs` refuses outputs that cannot be written, before any work is done.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
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
"""File locked by `locked_directory`, and end of the name of that of `locked_output`.

A killed process leaves it behind, unlocked.
"""

T = TypeVar("T")
_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {}
"""Cache by class: making an adapter takes longer than checking most files."""


SIZE_LIMIT = 1 << 32
"""Largest size in bytes of a file that is read into memory."""


def read_bytes(path: Path, most: int = SIZE_LIMIT) -> bytes:
    """Read a regular file of at most `most` bytes; raises InputError, which names it, where that fails."""
    try:
        with open_file(path, most) as stream:
            return stream.read()
    except BadDocument as error:
        where = str(path) if str(path).isprintable() else repr(str(path))
        raise InputError(f"{where}: {error}", "use a regular file of the right kind") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}", "use a readable file") from error


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file atomically: readers, also after a crash, see the old content or the new content.

    Raises InputError where it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
            os.chmod(name, 0o666 & ~umask())  # mkstemp creates files that only their owner can read
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise _unwritable(path, error) from error


def umask() -> int:
    """Return the permissions that new files of this process do not get."""
    found = os.umask(0)
    os.umask(found)
    return found


@contextmanager
def locked_directory(directory: Path, use: str) -> Iterator[None]:
    """Lock a directory, which is created if necessary, while the block runs.

    The operating system holds the lock, and releases it when the process ends for any reason.

    Raises
    ------
    InputError
        If another process has the lock (`use` describes its work), or the directory cannot be locked.
    """
    with _locked(directory / LOCK_FILE, directory, use):
        yield


@contextmanager
def locked_output(path: Path, use: str) -> Iterator[None]:
    """Lock an output that is written at the end, by a file beside it; else as `locked_directory`."""
    path = path.resolve()
    made = [each for each in path.parents if not each.exists()]
    try:
        with _locked(path.parent / f".{path.name}{LOCK_FILE}", path, use):
            yield
    finally:
        for each in made:  # those that are still empty
            with suppress(OSError):
                each.rmdir()


@contextmanager
def _locked(path: Path, what: Path, use: str) -> Iterator[None]:
    """Lock a file, which has the process that holds it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = _lock(path)
        while not _is_open_at(stream, path):  # its previous owner removed the file after we opened it
            stream.close()
            stream = _lock(path)
    except BlockingIOError as error:
        remedy = "wait until it has ended, or choose another directory"
        raise InputError(f"{what}: {use} is running there{_process_of(path)}", remedy) from error
    except OSError as error:
        remedy = "choose a writable path, on a file system that supports locks"
        raise InputError(f"{what}: {error.strerror or error}", remedy) from error
    with stream:
        try:
            stream.truncate(0)
            stream.write(f"{os.getpid()}\n".encode())
            stream.flush()
            yield
        finally:
            path.unlink(missing_ok=True)  # while still locked, so no other process can have locked it


def _process_of(path: Path) -> str:
    """Name the process that holds a lock, if its file says so."""
    try:
        process = path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        process = ""
    return f" (process {process})" if process.isdecimal() else ""


def _lock(path: Path) -> BinaryIO:
    """Open a file and lock it; raises BlockingIOError where another process has locked it."""
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
    """A path to write to, and what may be replaced there: with `force`, an earlier output of the same kind.

    Parameters
    ----------
    path : Path
        A file, or a directory that is created atomically; links are followed.
    is_earlier : callable
        Returns whether an existing path is an earlier output of the same kind.
    otherwise : str
        Error text for any other existing path, such as "is no certificate".
    force : bool
        Whether an earlier output may be replaced.
    is_directory : bool
        Whether the output is a directory; it may then exist if it is empty or has only a lock file.
    in_place : bool
        Whether files are written into an existing directory, instead of replacing it.
    instead : str
        Error text: the alternative to another path where there is an earlier output.
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
        """Return an output directory whose earlier outputs have a file named `marker`."""
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
        """Raise InputError where the path exists and may not be replaced."""
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
        """Write a file atomically; raises InputError where the path has come into existence meanwhile."""
        self.check_free()
        write_atomically(self.target, content)

    @contextmanager
    def filled(self) -> Iterator[Path]:
        """Yield a temporary directory that becomes the output, atomically, if the block succeeds.

        Raises
        ------
        InputError
            Before the block, as `check_outputs`. After the block, when the path has come into existence
            meanwhile, or cannot be written (a full disk).
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
                except InputError as error:  # it names a file in the temporary directory
                    raise InputError(error.what.replace(str(fresh), str(target)), error.remedy) from error
                self.check_free()
                if self.force and target.exists():
                    target.rename(old)
                try:
                    fresh.rename(target)  # fails for any existing path but an empty directory
                except OSError:
                    if old.exists():
                        old.rename(target)
                    raise
        except OSError as error:
            raise _unwritable(target, error) from error


def check_outputs(outputs: Iterable[Output | None], *, reads: Iterable[str | Path | None] = ()) -> None:
    """Refuse, before any work, outputs that could not be written after it.

    Parameters
    ----------
    outputs : iterable of Output
        All outputs that will be written; None is ignored.
    reads : iterable of str or Path
        Files and directories that are read; None and paths that do not exist are ignored.

    Raises
    ------
    InputError
        When an output exists and may not be replaced, two outputs overlap, an output overlaps an input, or
        an output cannot be written.
    """
    requested = [output for output in outputs if output is not None]
    for output in requested:
        output.check_free()
    for first, second in combinations(requested, 2):
        if (how := _overlap(second.target, first.target)) is not None:
            raise InputError(f"{second.path} {how} {first.path}, another output", "choose another path")
    given = [path for path in reads if path is not None and os.path.exists(path)]
    for output, path in product(requested, given):
        if (how := _overlap(output.target, Path(os.path.realpath(path)))) is not None:
            raise InputError(f"{output.path} {how} {path}, which is read", "choose another path")
    for output in requested:
        _check_writable(output)


def _overlap(path: Path, other: Path) -> str | None:
    """Return how two resolved paths overlap: "is", "is inside" or "contains"; None if they do not."""
    if path == other:
        return "is"
    if other in path.parents:
        return "is inside"
    return "contains" if path in other.parents else None


def _check_writable(output: Output) -> None:
    """Try what writing does first: create missing directories, and a temporary file next to the output."""
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
    return InputError(f"{path}: {error.strerror or error}", "choose a writable path")


def toml_table(content: bytes, where: str, remedy: str) -> dict[str, Any]:
    """Parse TOML to plain data (`documents.parse_toml`); raises InputError with `where` and the place."""
    try:
        return parse_plain_toml(content)
    except BadDocument as error:
        raise InputError(f"{where}: {error}", remedy) from error


def json_object(content: bytes, where: str, remedy: str) -> dict[str, Any]:
    """Parse a JSON object to plain data (`documents.parse_json`).

    Raises InputError with `where` and the place.
    """
    try:
        document = parse_plain_json(content)
        if not isinstance(document, dict):
            raise BadDocument("is not a JSON object")
    except BadDocument as error:
        raise InputError(f"{where}: {error}", remedy) from error
    return document


def check_version(document: Mapping[str, Any], version: int, where: str) -> None:
    """Raise InputError unless `schema_version` is `version`; fields of other versions cannot be checked."""
    found = document.get("schema_version")
    if type(found) is not int or found != version:
        what = f"{where}: schema_version is {shown(repr(found))}, this version supports {version}"
        raise InputError(what, "use the version of stas-neuro that wrote it, or a newer one")


def parse_json(
    cls: type[T],
    text: bytes,
    where: str,
    remedy: str,
    check: Callable[[dict[str, Any]], None] = lambda document: None,
) -> T:
    """Make a (nested) dataclass from JSON, without coercion; unknown fields are refused if the class says so.

    The text must be valid for `documents.parse_json`. `check` is called with the plain object before its
    fields are validated; it raises InputError if they have another meaning (another format or version).

    Raises
    ------
    InputError
        When the text is invalid. The message has `where`, the first invalid field with its problem, and the
        number of other problems.
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
        field = ".".join(str(part) for part in first["loc"]) or "the document"
        others = f" (and {len(more)} more problems)" if more else ""
        raise InputError(f"{where}: {field}: {first['msg']}{others}", remedy) from error
    except InputError as error:  # from a __post_init__, which does not know the file
        raise InputError(f"{where}: {error.what}", error.remedy) from error
