"""From an image file to pixels: decoded within limits, turned upright, resized, cut."""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from PIL import Image, ImageOps, UnidentifiedImageError

from nvp.data.importing.files import Unreadable
from nvp.data.importing.options import Crop

Preparation: TypeAlias = Callable[[Image.Image], Image.Image]
# In pixels. A small file can announce any number of them; Pillow warns a little above this limit.
LARGEST_IMAGE = 89_000_000
# Those of the suffixes `IMAGES`. Pillow goes by the content, and gives PostScript to Ghostscript.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "PPM", "WEBP")
# Errors of Pillow for damaged files of one kind or another.
DAMAGED = (
    *(OSError, EOFError, ValueError, SyntaxError, IndexError, KeyError, OverflowError),
    *(TypeError, struct.error, zlib.error, Image.DecompressionBombError),
)


@dataclass(frozen=True)
class Resize:
    """The smaller side becomes `size` pixels, by Pillow's bilinear filter over the old pixels.

    `crop` says whether the longer side is then cut, at both ends alike, to within a pixel.
    """

    size: int
    crop: Crop = "center"

    def __call__(self, image: Image.Image) -> Image.Image:
        width, height = image.size
        scale = self.size / min(width, height)
        width, height = (max(self.size, round(scale * side)) for side in (width, height))
        if width * height > LARGEST_IMAGE:
            raise Unreadable(f"it would grow to {width:,}x{height:,} pixels")
        if (width, height) != image.size:
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        if self.crop == "none":
            return image
        left, top = (width - self.size) // 2, (height - self.size) // 2
        return image.crop((left, top, left + self.size, top + self.size))


def central_face(image: Image.Image) -> Image.Image:
    """CelebA's rows 40 to 187 and columns 15 to 162 of 218x178, resized to 64x64.

    That is section 4.1 of Real NVP. Unlike the official code this rounds to whole levels, without
    which bits/dim is no code length.
    """
    if image.size != (178, 218):
        raise Unreadable("it has {}x{} pixels, aligned images have 178x218".format(*image.size))
    return image.crop((15, 40, 163, 188)).resize((64, 64), Image.Resampling.BILINEAR)


def decode(content: bytes, *, gray: bool) -> Image.Image:
    """The image in a file's bytes, in mode "L" or "RGB". Raises `Unreadable` with the reason."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            width, height = image.size
            if width * height > LARGEST_IMAGE:
                raise Unreadable(f"it announces {width:,}x{height:,} pixels")
            # Pillow reads 8 of the 16 bits of a colour. A BMP has 16 bits for all its colours.
            deep = image.format in ("PNG", "TIFF") and ";16" in str(image.tile)
            if image.format == "PPM" and isinstance(levels := image.tile[0][3], tuple):
                deep |= levels[-1] > 255  # after the mode, the largest level
            if deep or image.mode[0] in "IF":
                raise Unreadable("it has more than 8 bits a channel: convert it")
            upright = ImageOps.exif_transpose(image)
            if upright.has_transparency_data:  # on white: the colours beneath would be arbitrary
                upright = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
            return upright.convert("L" if gray else "RGB")
    except UnidentifiedImageError as error:
        raise Unreadable("it is no image file of a known kind") from error
    except DAMAGED as error:
        raise Unreadable(str(error) or type(error).__name__) from error
