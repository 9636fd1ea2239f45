"""Parquet files with a column of images, as data hubs serve them."""

import itertools
import json
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from nvp.data.importing.files import File, Files, Unreadable, reading
from nvp.data.importing.folder import SPLIT_FOLDERS, other_files
from nvp.data.importing.options import Options
from nvp.data.importing.source import Part, Picture, Source
from nvp.errors import NVPError

ROWS = 64  # that are in memory at once


def read_parquet(files: Files, options: Options) -> Source:
    """The rows of all files, in order. The files' names say the splits; missing ones are drawn.

    The column of images holds the bytes of image files, plain or as the field `bytes`. Labels are
    integers, in a column `label`, `labels` or `fine_label`. Paths in rows are never followed.
    """
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise NVPError("Parquet files need pyarrow: pip install '.[import]'") from error
    tables = files.ending(".parquet")
    schemas, counts = [], []
    for file in tables:  # one at a time: a set may have more files than a process may open
        with reading(file.name), file.open() as content, pq.ParquetFile(content) as table:
            schemas.append(table.schema_arrow)
            counts.append(table.metadata.num_rows)
    named = [_split_of(file) for file in tables]
    if any(named) and not all(named):
        raise NVPError(
            f"{files.source} holds tables of splits, and {tables[named.index(None)].name} beside "
            "them: begin its name with train, val or test, or move it away"
        )
    splits = np.repeat([split or "train" for split in named], counts).astype("<U10")
    schema = schemas[0]
    column, *others = _image_columns(schema, tables[0].name)
    label = _label_column(schema)
    columns = [column, *([label] if label else [])]
    for file, found in zip(tables, schemas, strict=True):
        if column not in _image_columns(found, file.name) or label != _label_column(found):
            raise NVPError(
                f"{file.name} has other columns than {tables[0].name} ({', '.join(columns)}): "
                "give them the same names and types"
            )

    def pictures(file: File, splits: np.ndarray, start: int) -> Iterator[Picture]:
        with reading(file.name), file.open() as opened, pq.ParquetFile(opened) as table:
            batches = table.iter_batches(batch_size=ROWS, columns=columns)
            rows = ((batch, row) for batch in batches for row in range(len(batch)))
            for number, (batch, row) in itertools.islice(enumerate(rows), start, None):
                content = partial(_content, batch.column(column), row)
                value = batch.column(label)[row].as_py() if label else None
                yield Picture(str(splits[number]), f"row {number} ({file.name})", content, value)

    drawn = np.split(options.draw(splits), np.cumsum(counts)[:-1])
    classes = _class_names(schema, label)
    return Source(
        kind="Parquet files",
        parts=[
            Part(len(each), partial(pictures, file, each))
            for file, each in zip(tables, drawn, strict=True)
        ],
        identity=files.identity,
        facts={
            "classes": classes,
            "column": column,
            "other columns of images": others,
            "other files": other_files(files, tables),
        },
    )


def _content(images: Any, row: int) -> bytes:
    value = images[row]
    # Of a struct nothing else is decoded: the path beside the bytes may be damaged.
    content = (value["bytes"] if images.type.num_fields else value).as_py()
    if not content:
        raise Unreadable("the row holds no bytes")
    return content


def _image_columns(schema: Any, name: str) -> list[str]:
    """The columns of the file `name` that can hold images."""
    import pyarrow as pa

    def holds_images(field: Any) -> bool:
        kind = field.type
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            kind = kind.field("bytes").type
        return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)

    if found := [field.name for field in schema if holds_images(field)]:
        return found
    raise NVPError(
        f"{name} has no column of images (bytes, or a struct with bytes) among "
        f"{', '.join(schema.names)}: name a folder of tables that have one"
    )


def _label_column(schema: Any) -> str | None:
    import pyarrow as pa

    integers = [field.name for field in schema if pa.types.is_integer(field.type)]
    return next((name for name in ("label", "labels", "fine_label") if name in integers), None)


def _class_names(schema: Any, label: str | None) -> list[str]:
    """The names of the classes, from a data hub's notes in the file; empty without them."""
    try:
        notes = json.loads((schema.metadata or {})[b"huggingface"])
        return list(notes["info"]["features"][label]["names"])
    except (KeyError, TypeError, ValueError):
        return []


def _split_of(file: File) -> str | None:
    """The split that the file's name begins with, as in train-00000.parquet, or its folder's.

    None without one. A data hub may convert only a part of a large set, into partial-train/.
    """
    for part in reversed(file.path.parts):
        first = re.split(r"[-_.]", part.lower().removeprefix("partial-"))[0]
        if first in SPLIT_FOLDERS:
            return SPLIT_FOLDERS[first]
    return None
