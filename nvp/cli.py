"""The command line: `nvp data ...`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from nvp.errors import NVPError


class _OneLineErrors(TyperGroup):
    """The one place where an `NVPError` becomes a line on stderr and exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except NVPError as error:
            typer.echo("nvp: " + " ".join(str(error).split()), err=True)
            raise typer.Exit(2) from error


app = typer.Typer(
    cls=_OneLineErrors,
    help="Real NVP and Pixel RNN: data, training, evaluation, and the ledger of results.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Say which data sets are here, and get the others.")
app.add_typer(data_app, name="data", no_args_is_help=True)

DataRoot = Annotated[
    Path | None,
    typer.Option(help="Folder of the data sets [default: NVP_DATA, else data/ of the repository]"),
]


@data_app.command("list")
def data_list(data_root: DataRoot = None) -> None:
    """Say which data sets are here, which are missing, and how to get them."""
    from nvp import catalogue, data

    table = Table("name", "image", "train", "test", "state", "where, or how to get it")
    for entry in catalogue.survey(data_root):
        channels, *sides = entry.image_shape or ("?", "?", "?")
        counts = ["-" if n is None else f"{n:,}" for n in (entry.train, entry.test)]
        size = "x".join(map(str, (*sides, channels)))
        table.add_row(entry.name, size, *counts, entry.state, entry.note)
    for column in table.columns[2:4]:
        column.justify = "right"
    console().print(table)
    typer.echo(
        f"Data root: {data.data_root(data_root)}\n"
        "Bring your own: a folder NAME under it with train_images.npy and test_images.npy, uint8, "
        "(N, H, W, C),\nand optionally train_labels.npy and test_labels.npy; data/README.md says "
        "more."
    )


@data_app.command("get")
def data_get(name: str, data_root: DataRoot = None) -> None:
    """Download MNIST, Fashion-MNIST or CIFAR-10, with its checksums compared."""
    from nvp import download

    typer.echo(f"{name} is ready in {download.get(name, data_root)}")


def console() -> Console:
    """A console that is as wide as the terminal, and wide enough for one line a row elsewhere."""
    return Console(width=None if sys.stdout.isatty() else 160)


def main() -> None:
    """The entry point of the `nvp` command."""
    app()


if __name__ == "__main__":
    main()
