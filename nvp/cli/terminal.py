"""The terminal: errors as one line, and tables as wide as it is."""

import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from nvp.errors import NVPError

# The base class of errors in options and commands. New versions of Typer have a click of their own.
_UsageError: Any = typer.BadParameter.__base__


@contextmanager
def one_line() -> Iterator[None]:
    """The one place where an error of the user becomes a line on stderr and exit code 2."""
    try:
        yield
    except NVPError as error:
        line = str(error)
    except OSError as error:
        if error.errno == errno.EPIPE:  # nobody reads on, as in `nvp data list | head -1`
            raise
        line = f"{error.filename or 'the output'}: {error.strerror or error}"
    except (MemoryError, RuntimeError) as error:  # RuntimeError: of PyTorch, on a GPU or a CPU
        if "allocate" not in str(error) and not isinstance(error, MemoryError):
            raise
        line = "out of memory: lower batch_size of training or evaluation, or the model's sizes"
    except SystemExit as error:
        if error.code:  # a process of several, whose error another one tells
            raise
        line = "the code of a model ended the program: take the exit() out"
    except KeyboardInterrupt:  # training answers the first one itself
        typer.echo("nvp: stopped", err=True)
        raise typer.Exit(130) from None
    except _UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            raise  # it is the help
        command = error.ctx.command_path if error.ctx else "nvp COMMAND"
        fault = error.format_message().replace("Value error, ", "").rstrip(".?")
        line = f"{fault}: see `{command} --help`"
    else:
        return
    typer.echo("nvp: " + " ".join(line.split()), err=True)
    raise typer.Exit(2)


class OneLineErrors(TyperGroup):
    """The commands, within `one_line` while their options are read and while they run."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        with one_line():
            if any(re.fullmatch("(--[a-z-]+=)?", each) for each in arguments[1]):
                raise NVPError("an argument is empty: is a variable of the shell not set?")
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        with one_line():
            return super().invoke(ctx)


def show_table(table: Table) -> None:
    """Print a table, as wide as the terminal; elsewhere 160 characters wide.

    A text that is longer than its column is folded, so that a command is shown whole.
    """
    for column in table.columns:
        column.overflow = "fold"
    width = None if sys.stdout.isatty() else 160
    Console(width=width, markup=False, emoji=False, highlight=False).print(table)


def flush() -> None:
    """Write what is left of the output, or say in one line that it cannot be written."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for Python's own flush
        if error.errno != errno.EPIPE:
            print(f"nvp: the output: {error.strerror}", file=sys.stderr)
        raise SystemExit(2) from error
