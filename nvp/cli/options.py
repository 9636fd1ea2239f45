"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DataRoot = Annotated[
    Path | None,
    typer.Option(help="Folder of the data sets [default: NVP_DATA, else data/ of the repository]"),
]
Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:1; auto takes a GPU if there is one")]
RunFolder = Annotated[
    Path, typer.Argument(help="What `nvp train` wrote, or the name of a recorded run")
]
Trust = Annotated[
    bool, typer.Option("--trust", help="Run the code of a model that this repository does not hold")
]
