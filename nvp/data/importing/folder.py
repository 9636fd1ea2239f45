"""A folder of images, or an archive of one; subfolders are splits, then classes."""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import PurePosixPath

import numpy as np

from nvp.data.importing.files import IMAGES, File, Files
from nvp.data.importing.options import Options
from nvp.data.importing.source import Part, Picture, Source
from nvp.errors import NVPError

SPLIT_FOLDERS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def read_folder(files: Files, options: Options) -> Source:
    """All images below a folder, in an order drawn from the seed.

    Subfolders named train or training, val, valid or validation, and test or testing are the
    splits. A missing one is drawn from the training images (`Options.draw`). Where all images lie
    in two or more subfolders, within the splits if there are any, these are classes, numbered as
    `sorted` orders them.
    """
    images = files.ending(*IMAGES)
    if not images:
        raise NVPError(
            f"{files.source} holds no images ({', '.join(IMAGES)}), and none of the sets "
            "that `nvp data import` knows: name the folder that holds them (arrays need no "
            "import: see data/README.md)"
        )
    paths = [_unpacked(file.path) if files.opened else file.path for file in images]
    paths = _below_the_common_folder(paths)
    named = [path.parts[0].lower() in SPLIT_FOLDERS and len(path.parts) > 1 for path in paths]
    splits = np.full(len(images), "train", "<U10")
    if any(named):
        if not all(named):
            stray = images[named.index(False)].name
            raise NVPError(
                f"{files.source} holds folders for splits, and {stray} beside them: put each image "
                "into train/, val/ or test/"
            )
        splits[:] = [SPLIT_FOLDERS[path.parts[0].lower()] for path in paths]
        paths = _below_the_common_folder([PurePosixPath(*path.parts[1:]) for path in paths])
    splits = options.draw(splits)
    classes = sorted({path.parts[0] for path in paths}) if _in_folders(paths) else []
    trained = {path.parts[0] for path in np.array(paths, object)[splits == "train"]}
    in_none = [file.name for file, path in zip(images, paths, strict=True) if len(path.parts) == 1]
    number_of = {name: number for number, name in enumerate(classes)}
    order = np.random.Generator(np.random.PCG64(options.seed)).permutation(len(images))

    def pictures(start: int) -> Iterator[Picture]:
        for index in order[start:].tolist():
            file = images[index]
            label = number_of[paths[index].parts[0]] if classes else None
            yield Picture(str(splits[index]), file.name, file.read, label)

    return Source(
        kind="a folder of images",
        parts=[Part(len(images), pictures)],
        identity=files.identity,
        facts={
            "classes": classes,
            "other files": other_files(files, images),
            "untrained": sorted(set(classes) - trained),
            # Some images are in subfolders, so somebody may have meant these as classes.
            "in no subfolder": in_none[:1] if 0 < len(in_none) < len(images) else [],
        },
    )


def other_files(files: Files, images: list[File]) -> dict[str, int]:
    """How many files, by their suffix, are neither `images` nor archives that were opened."""
    taken = Counter(file.path.suffix.lower() for file in (*images, *files.opened))
    return dict(Counter(file.path.suffix.lower() for file in files.all) - taken)


def _unpacked(path: PurePosixPath) -> PurePosixPath:
    """train.zip/1.png or train.zip/train/1.png, of an archive in a folder, as train/1.png."""
    folders = [re.sub(r"\.(zip|tar)$", "", name, flags=re.I) for name in path.parts[:-1]]
    return PurePosixPath(*(name for name, _ in groupby(folders)), path.name)


def _below_the_common_folder(paths: list[PurePosixPath]) -> list[PurePosixPath]:
    """Without the folders that hold everything, as archives often have one."""
    while _in_folders(paths) and len(first := {path.parts[0] for path in paths}) == 1:
        if first.pop().lower() in SPLIT_FOLDERS:
            break
        paths = [PurePosixPath(*path.parts[1:]) for path in paths]
    return paths


def _in_folders(paths: list[PurePosixPath]) -> bool:
    return all(len(path.parts) > 1 for path in paths)
