"""A source of images in a fixed order, each with its split and its label."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from nvp.data.importing.pixels import Preparation


class Picture(NamedTuple):
    """One image. `content` reads it: an image file, or pixels (H, W, C) uint8."""

    split: str
    name: str
    content: Callable[[], bytes | np.ndarray]
    label: int | np.ndarray | None = None


class Part(NamedTuple):
    """Some images of a source: `pictures(start)` gives those from `start` on, in a fixed order."""

    number: int
    pictures: Callable[[int], Iterator[Picture]]


@dataclass(frozen=True)
class Source:
    """The images of a source: those of its parts, one after the other.

    `published` is the name of the set, where it is one of the papers' in its publisher's files:
    `prepare` is then the papers' rule, and a user cannot choose another. `facts` go into the note.
    """

    kind: str
    parts: list[Part]
    identity: str
    published: str | None = None
    prepare: Preparation | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def number(self) -> int:
        """How many images there are."""
        return sum(part.number for part in self.parts)

    def pictures(self, start: int) -> Iterator[Picture]:
        """The images from number `start` on. Raises `NVPError` where a file ends or breaks off."""
        for part in self.parts:
            if start < part.number:
                yield from part.pictures(start)
            start = max(0, start - part.number)


def held(content: bytes | np.ndarray) -> Callable[[], bytes | np.ndarray]:
    """The `content` of a picture that is in memory already."""
    return lambda: content
