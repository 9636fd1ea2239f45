"""LSUN's scenes: one database of image files for each category and split."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from nvp.data.importing.files import reading
from nvp.data.importing.pixels import Resize
from nvp.data.importing.source import Part, Picture, Source, held
from nvp.errors import NVPError

SIDE = 96  # of the smaller side (Real NVP, section 4.1)


def read_lsun(folder: Path, name: str) -> Source:
    """A category's two databases, CATEGORY_train_lmdb and CATEGORY_val_lmdb, in the order of keys.

    The smaller side becomes 96 pixels; training cuts random 64x64 squares. The paper scores the
    validation images, which become the split `test`.
    """
    found = sorted({path.name.partition("_train_lmdb")[0] for path in folder.glob("*_train_lmdb*")})
    category = name.removeprefix("lsun-").replace("-", "_")
    if category not in found:
        raise NVPError(f"{folder} holds {', '.join(found)}: name one of them as lsun-CATEGORY")
    counts, parts = {}, []

    def pictures(split: str, database: str, start: int) -> Iterator[Picture]:
        with _opened(folder / database) as opened, opened.begin() as transaction:
            keys = transaction.cursor().iternext(values=False)
            for key in itertools.islice(keys, start, None):
                place = f"{key.decode(errors='replace')} ({database})"
                yield Picture(split, place, held(bytes(transaction.get(key) or b"")))

    for split, ending in (("train", "train"), ("test", "val")):
        database = f"{category}_{ending}_lmdb"
        with _opened(folder / database) as opened:
            counts[split] = opened.stat()["entries"]
        parts.append(Part(counts[split], partial(pictures, split, database)))

    return Source(
        kind=f"LSUN, {category}",
        parts=parts,
        identity=f"{category} {counts}",
        published=f"lsun-{category.replace('_', '-')}",
        prepare=Resize(SIDE, "none"),
        facts={"resized": f"the smaller side to {SIDE}", "data.crop": 64},
    )


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A database, closed in the end, since a process opens one only once."""
    try:
        import lmdb
    except ImportError as error:
        raise NVPError("LSUN's databases need lmdb: pip install '.[import]'") from error
    file = path / "data.mdb"
    if not file.is_file():
        raise NVPError(f"{path} holds no data.mdb: unpack {path.name}.zip in {path.parent}")
    flags = {"readonly": True, "lock": False, "readahead": False, "meminit": False}
    with reading(path, lmdb.Error), lmdb.open(str(path), **flags) as opened:
        size = (opened.info()["last_pgno"] + 1) * opened.stat()["psize"]
        if file.stat().st_size < size:  # to read past its end would end the process
            raise NVPError(f"{file} is cut short, it needs {size:,} bytes: download it again")
        yield opened
