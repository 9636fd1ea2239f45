"""`nvp data`: which sets are here, getting others, making one's own."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from nvp import paths
from nvp.cli.options import DataRoot
from nvp.cli.terminal import show_table
from nvp.config import LARGEST_SEED
from nvp.data import catalogue, download
from nvp.data.formats import SPLITS
from nvp.data.importing.options import Crop, Options
from nvp.errors import NVPError
from nvp.model.config import LARGEST_SIDE

data_app = typer.Typer(help="Say which data sets are here, get others, make your own.")


@data_app.command("list")
def data_list(data_root: DataRoot = None) -> None:
    """Say which data sets are here, and how to get the others."""
    numbers = [Column(split, justify="right") for split in SPLITS]
    table = Table("name", "image", *numbers, "state", "where, or how to get it")
    for row in catalogue.survey(data_root):
        channels, *sides = row.image_shape or ("?", "?", "?")
        counts = [f"{row.images[s]:,}" if s in row.images else "-" for s in SPLITS]
        size = "x".join(map(str, (*sides, channels)))
        table.add_row(row.name, size, *counts, row.state, row.note)
    show_table(table)
    root = paths.data_root(data_root)
    typer.echo(
        f"Data root: {root}{', which is no folder' * (not root.is_dir())}. Loading a set compares "
        "its checksums.\n"
        "Your own images: nvp data import FOLDER NAME --size 32 makes a set of a folder of them; "
        "book/own_images.md says more."
    )


@data_app.command("get")
def data_get(
    name: Annotated[str, typer.Argument(help="A set that can be downloaded: see `nvp data list`")],
    data_root: DataRoot = None,
) -> None:
    """Download a published data set, and compare its checksums."""
    download.get(name, data_root)
    here = catalogue.row(name, paths.data_root(data_root))
    typer.echo(f"{name} is {here.state}: {here.note}")


@data_app.command("import")
def data_import(
    source: Annotated[
        Path, typer.Argument(help="A folder or an archive of images, or a publisher's files")
    ],
    name: Annotated[
        str, typer.Argument(help="Name of the new set, for data.name of a configuration")
    ],
    size: Annotated[
        int | None,
        typer.Option(
            min=1, max=LARGEST_SIDE, help="Pixels of the smaller side [default: as they are]"
        ),
    ] = None,
    crop: Annotated[
        Crop | None,
        typer.Option(
            help="center cuts squares of --size; none leaves the cutting to training (data.crop) "
            "[default: center]"
        ),
    ] = None,
    gray: Annotated[bool, typer.Option("--gray", help="One channel instead of three")] = False,
    validation: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share for validation, if the source has no split")
    ] = Options.validation,
    test: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share for testing, if the source has no split")
    ] = Options.test,
    seed: Annotated[
        int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of the split and of the order")
    ] = Options.seed,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Leave out, and note, what cannot be read")
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a set of that name")] = False,
    data_root: DataRoot = None,
) -> None:
    """Make a data set of a folder of images, or of a publisher's files.

    If it is killed, the same command goes on where it was.
    """
    from nvp.data.importing.run import import_set

    if crop == "center" and size is None:
        raise NVPError("--crop center cuts squares of --size: give a --size with it")
    how = Options(
        size=size,
        crop=crop or Options.crop,
        gray=gray,
        validation=validation,
        test=test,
        seed=seed,
        skip_unreadable=skip_unreadable,
        replace=replace,
    )
    typer.echo(import_set(source, name, how, root=data_root).summary())
