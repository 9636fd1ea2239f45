"""The one error that a user can cause, and one line of what pydantic found."""

from pydantic import ValidationError


class NVPError(ValueError):
    """One line: what was wrong, where, and what to do. The command line prints it and exits 2."""


def first_fault(error: ValidationError) -> str:
    """The first fault that pydantic found, such as "scores.test: Field required"."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"])) or "the whole"
    return f"{where}: {first['msg'].removeprefix('Value error, ')}"
