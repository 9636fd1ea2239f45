"""The command line: `nvp data | train | evaluate | sample | record | pictures | ...`."""

try:
    from nvp.cli.main import app, main
except ModuleNotFoundError as error:
    raise SystemExit(f"nvp: {error}: the command line needs pip install '.[cli]'") from error

__all__ = ["app", "main"]
