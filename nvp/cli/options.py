"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from nvp.paths import expanded


def at_home(path: Path | None) -> Path | None:
    """The path with the home folder for "~", which a shell leaves alone in --out=~/samples.png."""
    return None if path is None else expanded(path)


DataRoot = Annotated[
    Path | None,
    typer.Option(help="Folder of the data sets [default: NVP_DATA, else data/ of the repository]"),
]
Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:1; auto takes cuda if there is one")]
RunArgument = Annotated[
    Path, typer.Argument(help="Run folder of `nvp train`, or name of a recorded run")
]
Trust = Annotated[
    bool, typer.Option("--trust", help="Run the code of a model that this repository does not hold")
]
