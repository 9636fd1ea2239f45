"""The commands that train, score, record and verify runs."""

import faulthandler
import io
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

import nvp
from nvp.cli.data import data_app
from nvp.cli.options import DataRoot, Device, RunArgument, Trust, at_home
from nvp.cli.terminal import OneLineErrors, flush, show_table
from nvp.config import LARGEST_SEED
from nvp.errors import NVPError
from nvp.ledger import enter, reopen
from nvp.ledger.entry import entry_folders
from nvp.ledger.pictures import make_pictures
from nvp.ledger.scoring import score, scored_images
from nvp.ledger.verify import verify as checks
from nvp.likelihood import summarise
from nvp.model.protocol import batch_norms
from nvp.runs.folder import find_run
from nvp.runs.load import TrainedRun, load_run, trust_option
from nvp.runs.sheet import check_path, write_samples
from nvp.training import start
from nvp.training.allocator import keep_freed_memory
from nvp.training.distributed import is_first, processes

app = typer.Typer(
    cls=OneLineErrors,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # brackets in a help text are meant
)
app.add_typer(data_app, name="data", no_args_is_help=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"nvp {nvp.__version__}")
        raise typer.Exit


@app.callback()
def common(
    _: Annotated[
        bool,
        typer.Option("--version", help="Print the version", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Real NVP and Pixel RNN: data, training, evaluation, and the ledger of results."""


@app.command()
def train(
    config: Annotated[Path | None, typer.Argument(help="Such as configs/mnist.yaml")] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Go on with this run folder, or from the weights of a recorded run",
            callback=at_home,
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Such as training.minutes=5; a --set before each"
        ),
    ] = None,
    run_folder: Annotated[
        Path | None,
        typer.Option(help="Folder to write [default: build/runs/NAME]", callback=at_home),
    ] = None,
    data_root: DataRoot = None,
    device: Device = "auto",
    trust: Trust = False,
) -> None:
    """Train the model of CONFIG, or go on where it was stopped."""
    where: dict[str, Any] = {"data_root": data_root, "device": device}
    if (config is None) == (resume is None):
        raise NVPError("name either a configuration to train, or a run folder after --resume")
    with processes():
        if resume is not None:
            typer.echo(reopen.resume(resume, changes, run_folder, **where, trust=trust))
        elif config is not None:
            typer.echo(start.start(config, changes, run_folder, **where))


@app.command()
def evaluate(
    run_folder: RunArgument,
    split: Annotated[
        Literal["test", "train", "validation"], typer.Option(help="validation where a set has it")
    ] = "test",
    num_draws: Annotated[
        int | None, typer.Option(min=1, help="Sets of noise an image [default: the run's own]")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=2, help="Score only the first LIMIT images")
    ] = None,
    data_root: DataRoot = None,
    device: Device = "auto",
    trust: Trust = False,
) -> None:
    """Score a run in bits/dim and nats an image, with standard errors.

    A model with batch norms is scored with their running statistics, and with those of each batch.
    A run whose family is module:Class runs the code of that module. It needs --trust if the module
    is not in this repository.
    """
    with processes():
        run = load_run(run_folder, data_root=data_root, device=device, trust=trust)
        num_draws = num_draws or run.config.evaluation.num_draws
        images = scored_images(run, split, data_root, limit)
        title = f"{_named(run)} on {run.config.data.name}, {split}"
        table = Table("", "bits/dim", "nats", "images", "sets of noise", title=title)
        exact = run.model.likelihood == "exact"
        ways = [("log-likelihood" if exact else "bound of the log-likelihood", False)]
        if batch_norms(run.model):
            ways = [("running statistics", False), ("statistics of each batch", True)]
        for what, of_batches in ways:
            scores = score(run, images, what, num_draws=num_draws, of_batches=of_batches)
            mean = summarise(scores, num_draws)
            figures = mean.cells(run.model.image_shape)
            noise = "none" if exact else str(num_draws)
            table.add_row(what, *figures, f"{mean.num_images:,}", noise)
        show_table(table)


@app.command()
def sample(
    run_folder: RunArgument,
    out: Annotated[Path, typer.Option(help="The PNG file to write", callback=at_home)],
    number: Annotated[
        int, typer.Option("-n", "--number", min=1, max=10_000, help="Number of images")
    ] = 64,
    temperature: Annotated[
        float, typer.Option(min=0.0, max=1e6, help="1 samples the model; lower varies less")
    ] = 1.0,
    label: Annotated[
        int | None,
        typer.Option(
            min=0, max=LARGEST_SEED, help="Class of a conditional model [default: all in turn]"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of the noise")] = 0,
    data_root: DataRoot = None,
    device: Device = "auto",
    trust: Trust = False,
) -> None:
    """Sample images, and write them as one picture."""
    check_path(out)  # before the run is loaded
    run = load_run(run_folder, data_root=data_root, device=device, trust=trust)
    write_samples(run.model, out, number, temperature=temperature, seed=seed, label=label)
    what = "1 sample" if number == 1 else f"{number} samples"
    typer.echo(f"{what} of {_named(run)}: {out}")


def _named(run: TrainedRun) -> str:
    """Its name, and whether it is the recorded one: a user may have trained another."""
    return "recorded run " * (run.training is None) + run.config.name


@app.command()
def record(
    run_folder: Annotated[Path, typer.Argument(help="Run folder of `nvp train`, finished or not")],
    name: Annotated[
        str | None, typer.Option(help="Name of the entry [default: the run's name]")
    ] = None,
    num_draws: Annotated[
        int, typer.Option(min=2, help="Sets of noise an image, for the first test images")
    ] = 8,
    first: Annotated[
        int, typer.Option(min=2, help="Number of test images scored with --num-draws sets of noise")
    ] = 1000,
    weights: Annotated[
        bool | None, typer.Option(help="Keep the weights [default: up to 12 MB]")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace an existing entry of that name")
    ] = False,
    data_root: DataRoot = None,
    device: Device = "auto",
    trust: Trust = False,
) -> None:
    """Score a run on the full test set, and enter it into the ledger."""
    from nvp.tables.cells import how_it_ended

    with processes():
        run = enter.record(
            find_run(run_folder),
            name=name,
            data_root=data_root,
            num_draws=num_draws,
            first=first,
            keep_weights=weights,
            replace=replace,
            device=device,
            trust=trust,
        )
        entry = run.record
        figure = "no likelihood"
        if run.has_likelihood:
            figure = (
                f"{run.score}, {run.nats[0]:.2f} ± {run.nats[1]:.2f} nats, on "
                f"{entry.data.test_images:,} test images of {entry.data.name}"
            )
        typer.echo(
            f"{run.name}: {figure}, {how_it_ended(run)}; recorded in {run.folder}; "
            "now run `nvp tables`"
        )
        if is_first() and trust_option(run.config):
            typer.echo(
                f"without {run.config.model.family} nobody can read this entry, or make tables: "
                "put its module into examples/, name it from there, and train again",
                err=True,
            )


@app.command()
def pictures(
    run: Annotated[Path, typer.Argument(help="The name of a recorded run")],
    film: Annotated[
        Path | None,
        typer.Option(
            help="Make the filmstrip, from this folder of checkpoints (*.safetensors)",
            callback=at_home,
        ),
    ] = None,
    data_root: DataRoot = None,
    device: Device = "auto",
    trust: Trust = False,
) -> None:
    """Make the pictures of a recorded run again, or its filmstrip."""
    made = make_pictures(find_run(run), film, data_root=data_root, device=device, trust=trust)
    typer.echo(f"the pictures of {made.name} are in {made.folder}")


@app.command()
def tables(
    show: Annotated[bool, typer.Option("--print", help="Show them in the terminal too")] = False,
) -> None:
    """Write tables, cards of runs and expected scores from the ledger."""
    from nvp.tables import build

    for path in build.write_tables():
        typer.echo(f"wrote {path}", err=True)
    if show:
        for made in build.tables(build.NAMES):
            plain = made.plain()
            shown = Table(*plain.header, caption=plain.caption, caption_justify="left")
            for row in plain.rows:
                shown.add_row(*row)
            show_table(shown)


@app.command()
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(help="Recorded runs, such as mnist [default: all]")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Score only a few embedded images, in seconds")
    ] = False,
    data_root: DataRoot = None,
    device: Device = "auto",
) -> None:
    """Score recorded runs again, and fail if score or samples differ."""
    # A shell completes results/runs/mnist; within it, the folder is ".".
    here, paths = {folder.resolve() for folder in entry_folders()}, map(Path, names or ())
    entries = [p.resolve().name if p.resolve() in here else str(p) for p in paths]
    differs, table = False, Table("run", "what", "in the ledger", "scored again", "")
    with processes():
        for check in checks(entries, quick=quick, data_root=data_root, device=device):
            if is_first():
                typer.echo(f"{check.run}, {check.what}: {check.outcome}", err=True)
            table.add_row(check.run, check.what, check.recorded, check.found, check.outcome)
            differs |= check.outcome == "differs"
        if table.rows:
            show_table(table)
        else:
            typer.echo("The ledger is empty: nothing to verify.")
    if differs:
        raise typer.Exit(1)


def main() -> None:
    """The entry point of the `nvp` command."""
    nowhere = open(os.devnull, "w")  # noqa: SIM115, it stays open
    sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere  # None if closed: 2>&-
    faulthandler.enable()  # a damaged library ends the process; this says where
    keep_freed_memory()  # a setting of the whole process, which a library should not change
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # where the terminal knows ASCII alone
    try:
        app()
    finally:
        flush()
