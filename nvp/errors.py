"""The one error that a user can cause."""


class NVPError(ValueError):
    """One line: what was wrong, where, and what to do. The command line prints it and exits 2."""
