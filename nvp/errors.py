"""The one error that a user can cause, and one line for what others raise."""

from pydantic import ValidationError


class NVPError(ValueError):
    """One line: what was wrong, where, and what to do. The command line prints it and exits 2."""


def first_fault(error: Exception) -> str:
    """The first fault that pydantic found, such as "scores.test: Field required".

    Any other error as it is, in one line; its kind where it says nothing.
    """
    if not isinstance(error, ValidationError):
        return " ".join(str(error).split()) or type(error).__name__
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"])) or "the whole"
    return f"{where}: {first['msg'].removeprefix('Value error, ')}"
