"""The command line: `nvp data | train | evaluate | sample | record | pictures | ...`."""

try:
    import rich  # noqa: F401
    import typer  # noqa: F401
except ModuleNotFoundError as error:
    raise SystemExit(f"nvp: {error}: the command line needs pip install '.[cli]'") from error

from nvp.cli.main import app, main

__all__ = ["app", "main"]
