"""Limits on what reading an input may do: time, memory, and the files and code it touches."""

from __future__ import annotations

import os
import resource
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType
from typing import Any

SECONDS = 5.0
"""Processor time that each thing the program does with an input may take."""
MEMORY = 1 << 30
"""Bytes of address space that it may take beyond those of the program with everything imported."""

_CHANGES = {
    "os.chmod", "os.chown", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink",
    "os.truncate", "os.utime", "shutil.rmtree", "shutil.move", "shutil.copyfile",
}  # fmt: skip
_BY_DESCRIPTOR = {"os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.utime"}
"""Changes whose path may be relative to the directory of a descriptor, their last argument."""
_NEVER = {
    "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen",
    "pickle.find_class", "socket.connect", "socket.bind", "ctypes.dlopen",
}  # fmt: skip
_ROOTS = tuple(
    {os.path.realpath(place) for place in (sys.prefix, sys.base_prefix, Path(__file__).parents[2])}
    | {sys.prefix, sys.base_prefix, "<frozen"}
)
_watched: Path | None = None
"""Where an input may be written to while it is read; None while none is."""


class Breach(BaseException):
    """An input made the program do what no input may; not an Exception, so that nothing swallows it."""


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _watched is None:
        return
    if event in _NEVER:
        raise Breach(f"{event} {arguments!r:.200}")
    if event == "exec":
        code = arguments[0]
        known = isinstance(code, CodeType) and code.co_filename.startswith(_ROOTS)
        if not known and not _is_importing():
            raise Breach(f"runs code of {getattr(code, 'co_filename', code)!r}")
    if event == "open":
        path, mode, flags = arguments
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        if (writes or set(mode or "") & set("wax+")) and path != os.devnull:
            _check_place(event, path)
    if event in _CHANGES:
        directory = arguments[-1] if len(arguments) > 1 and event in _BY_DESCRIPTOR else -1
        _check_place(event, arguments[1 if event == "shutil.copyfile" else 0], directory)


def _is_importing() -> bool:
    """Whether a module is being imported, whose own code has been looked at: dataclasses run texts then."""
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def _check_place(event: str, path: Any, directory: Any = -1) -> None:
    if isinstance(path, int):  # a descriptor, opened before
        return
    if isinstance(directory, int) and directory >= 0 and sys.platform != "linux":
        return  # nothing tells which directory that is
    beside = (
        "" if not isinstance(directory, int) or directory < 0 else os.readlink(f"/proc/self/fd/{directory}")
    )
    where = os.path.realpath(os.path.join(beside, os.fsdecode(path)))
    if _watched is None or not where.startswith(str(_watched)):
        raise Breach(f"{event} of {where}")


def _too_long(signal_number: int, frame: Any) -> None:
    raise Breach(f"takes more than {SECONDS:g} s")


def install() -> None:
    """Begin to guard this process, for good; call it when everything has been imported and used once."""
    warnings.simplefilter("error")
    signal.signal(signal.SIGPROF, _too_long)
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if sys.platform == "linux" else 0
    limit = pages * resource.getpagesize() + MEMORY
    if pages:
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    sys.addaudithook(_audit)


def restart() -> None:
    """Begin the time anew, for another thing that is done with an input."""
    if _watched is not None:
        signal.setitimer(signal.ITIMER_PROF, SECONDS)


@contextmanager
def guarded(output: Path) -> Iterator[None]:
    """Hold a block to the limits; it may write below `output`."""
    global _watched
    _watched = Path(os.path.realpath(output))
    restart()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        _watched = None
