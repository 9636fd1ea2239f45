"""The pictures of an entry: samples beside real images, completions, and a filmstrip.

They are made from fixed noise. All but the filmstrip are drawn in float64, so that other machines
make the same ones.
"""

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nvp.autoregressive.pixelrnn import PixelRNN
from nvp.data.splits import examples, load_split, spread, training_data
from nvp.errors import NVPError
from nvp.files import write, write_text
from nvp.ledger.entry import Run, read_run, record_text
from nvp.ledger.scoring import in_float64
from nvp.model.labels import Examples, images_and_labels
from nvp.model.protocol import ImageModel
from nvp.progress import counting
from nvp.runs.checkpoint import read_checkpoint
from nvp.runs.folder import RunFolder
from nvp.runs.load import TrainedRun, finished_model, load_run, read_config
from nvp.runs.sheet import draw, encode, greys, sheet

NUMBER, COLUMNS = 64, 8
MAX_BYTES, MAX_WIDTH = 300_000, 600  # of one picture
FILM_ROWS = 8
# The share of a picture's pixels that may differ, by more than 1 of 255, when it is made again. The
# rounding of a single pixel can lead a Pixel RNN to another image, which is a share of 0.016.
TOLERANCE = 0.035


def write_pictures(run: TrainedRun, entry: RunFolder, test: Examples) -> None:
    """Write `samples.png`, `real.png` of `test` images and, of a Pixel RNN, `completions.png`."""
    model = in_float64(run)
    real, _ = images_and_labels(spread(test, NUMBER))
    _write(entry.samples, greys(draw(model, NUMBER), model.levels))
    _write(entry.real, greys(real, model.levels))
    if isinstance(model, PixelRNN):
        _write(entry.completions, complete(model, real[:COLUMNS]))


def complete(model: PixelRNN, images: Tensor) -> Tensor:
    """For each of N images its upper half, six completions, itself: uint8, (8 N, C, H, W)."""
    half = images.shape[2] // 2
    noise = torch.Generator().manual_seed(0)
    completed = model.complete(images, half, COLUMNS - 2, generator=noise)
    whole = greys(images, model.levels)
    kept = whole.clone()
    kept[:, :, half:] = 128
    shown = (kept[:, None], greys(completed, model.levels), whole[:, None])
    return torch.cat(shown, dim=1).flatten(0, 1)


def differing(path: Path, model: ImageModel) -> float:
    """The share of the picture at `path`, in 0..1, that differs when its samples are made again.

    A pixel has a value for each colour. Those that differ by more than 1 of 255 count.
    """
    from PIL import Image  # only the extra `cli` brings it

    try:
        stored = np.asarray(Image.open(path)).astype(int)
    except (OSError, SyntaxError, ValueError) as error:  # Pillow raises all of them
        raise NVPError(f"{path} is damaged ({error}): restore it with git checkout") from error
    again = np.asarray(sheet(greys(draw(model, NUMBER), model.levels), COLUMNS)).astype(int)
    zoom = max(1, stored.shape[1] // again.shape[1])
    stored = stored[::zoom, ::zoom]
    again = again[: len(stored)]  # a sheet that was too large has fewer rows
    if stored.shape != again.shape:
        return 1.0
    return float((abs(stored - again) > 1).mean())


def make_pictures(
    folder: Path,
    film: Path | None = None,
    *,
    data_root: Path | None = None,
    device: str = "auto",
    trust: bool = False,
) -> Run:
    """Make the pictures of a recorded run again, or only its filmstrip from the folder `film`.

    Raises `NVPError` as `nvp.runs.load.read_config` does.
    """
    files = RunFolder(folder)
    read_config(files, trust=trust)
    if not files.is_recorded:
        raise NVPError(f"{folder} is no recorded run: first give `nvp record {files.quoted}`")
    run = read_run(folder)
    if film is not None:
        return write_film(run, film, data_root=data_root, device=device)
    test = examples(run.config, load_split(run.config, "test", data_root))
    write_pictures(load_run(folder, device=device, trust=trust), run.files, test)
    return run


def write_film(run: Run, film: Path, *, data_root: Path | None = None, device: str = "auto") -> Run:
    """Write `filmstrip.png`: what the run sampled from the same noise at several steps.

    `film` holds copies of its checkpoint. Each is a column, in the order of their steps; the record
    keeps how many images each had seen.
    """
    paths = sorted(film.glob("*.safetensors"))
    if not paths:
        raise NVPError(f"{film} holds no checkpoints (*.safetensors): name a folder that does")
    config = run.config
    data = training_data(config, data_root)
    columns = {}
    with counting(f"{run.name}, filmstrip", len(paths)) as progress:
        for path in paths:
            checkpoint = read_checkpoint(path, config)
            checkpoint.check_data(data)
            model = finished_model(config, checkpoint.averaged, path, device, lambda: data)
            columns[checkpoint.header.step] = greys(draw(model, FILM_ROWS), model.levels)
            progress(len(columns))
    steps = sorted(columns)
    rows = torch.stack([columns[step] for step in steps], dim=1).flatten(0, 1)
    _write(run.files.filmstrip, rows, len(steps))
    film_images = tuple(step * config.training.batch_size for step in steps)
    record = run.record.model_copy(update={"film": film_images})
    write_text(run.files.record, record_text(record))
    return read_run(run.folder)


def _write(path: Path, images: Tensor, columns: int = COLUMNS) -> None:
    """Write a sheet as large as the limits allow, with fewer rows where it is too large.

    One row is written in any case.
    """
    fitting = [zoom for zoom in (3, 2) if sheet(images, columns, zoom).width <= MAX_WIDTH]
    for zoom in (*fitting, 1):
        png = encode(sheet(images, columns, zoom))
        if len(png) <= MAX_BYTES or (zoom == 1 and len(images) <= columns):
            write(path, png)
            return
    rows = math.ceil(len(images) / columns)
    _write(path, images[: rows // 2 * columns], columns)
