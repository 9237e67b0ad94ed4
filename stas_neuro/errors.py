"""User-facing errors: one line with the problem and the remedy."""

from __future__ import annotations

from collections.abc import Collection

from stas_neuro.documents import one_line


class StasError(Exception):
    """An error that a user can act on: the problem and its remedy in one line.

    Parameters
    ----------
    what : str
        The problem: names the node, file or entry, its value and the limit.
    remedy : str
        What the user can do about it.

    Attributes
    ----------
    exit_code : int
        Exit code of the command line.
    lines : tuple of str
        All problems, where the message can only name the worst; the command line prints them below it.
    """

    exit_code: int = 1
    lines: tuple[str, ...] = ()

    def __init__(self, what: str, remedy: str) -> None:
        # Exception stores both as args, so that pickle can pass them on from a worker process.
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy

    @property
    def headline(self) -> str:
        """First line on the command line, above `lines`: the whole message, unless `lines` repeat it."""
        return str(self)

    def __str__(self) -> str:
        """Return "what; remedy" as one printable line, even where a part quotes the content of a file."""
        return f"{one_line(self.what)}; {one_line(self.remedy)}"


class InputError(StasError):
    """A file, option or model that cannot be used (exit code 2)."""

    exit_code = 2


class CheckFailed(StasError):
    """A check that ran and failed: a divergence, an exceeded limit (exit code 1)."""

    exit_code = 1


def closest(name: str, known: Collection[str]) -> str | None:
    """Return the known name that a mistyped one is most similar to, whatever the case and dashes; or None."""
    import difflib  # imported here: only errors need it

    folded, letters = {_letters(each): each for each in known}, _letters(name)
    similar = difflib.get_close_matches(letters, folded, n=1)
    # Swapped letters of a short name make it look unlike: tyni and tiny.
    similar = similar or [each for each in folded if sorted(each) == sorted(letters)]
    return folded[similar[0]] if similar else None


def unknown(kind: str, name: object, known: Collection[str], otherwise: str = "") -> InputError:
    """Return the error for a name that does not exist: it suggests a similar one, and lists all.

    `otherwise` is what can be given instead of a name.
    """
    similar = closest(str(name), known)
    use = "use one of " if similar is None else f"did you mean {similar}? Use one of "
    remedy = use + ", ".join(known)
    return InputError(f"there is no {kind} '{name}'", f"{remedy}, or {otherwise}" if otherwise else remedy)


def _letters(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())
