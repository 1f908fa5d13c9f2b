"""Read image files as RGB, for every experiment.

Eight bits a channel, as nearly all files have, are not changed. Transparent pixels become white.
16-bit grey is scaled to 8 bits by its range; 32-bit integers and floats, whose range is not known,
and Lab colours, which Pillow does not convert, are refused. EXIF orientation and colour profiles
are not applied: no protocol here does, nor do published numbers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from PIL.Image import Image

READING = 2  # raised when pixels may change, so that older features are not used
# Formats that Pillow decodes itself; an EPS or PDF, whatever its name, would start a program.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
AS_THEY_ARE = ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr")
WITH_ALPHA = ("LA", "PA", "RGBA", "RGBa")
GREY_16 = ("I;16", "I;16L", "I;16B", "I;16N")
WHITE = (255, 255, 255, 255)
PIXELS = 89_478_485  # Pillow's limit for a decompression bomb: a quarter of a GiB as RGB
BITS, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0  # two TIFF tags, and a value of the second


@contextmanager
def opened(file: Path | IO[bytes], where: str) -> "Iterator[Image]":
    """Read the header of an image file; pixels are decoded when they are first used.

    Raises:
        ZiaError: the file, named `where`, is in none of `FORMATS`, damaged or cut off, has more
            than `PIXELS` pixels, or has a mode that is refused.
        FileNotFoundError: not translated, since the caller knows what the file is for.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file, formats=FORMATS) as image:
            _check(image, where)
            yield image
    except (FileNotFoundError, ZiaError):
        raise
    except UnidentifiedImageError as error:  # its own text names a memory address
        reason = f"it is none of {', '.join(FORMATS)}"
        raise ZiaError(_unread(where, reason)) from error
    except Image.DecompressionBombError as error:
        raise ZiaError(_too_large(where)) from error
    except Exception as error:  # Pillow's parsers may raise anything on a damaged file
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ZiaError(_unread(where, reason)) from error


def read_rgb(file: Path | IO[bytes], where: str) -> "Image":
    """Return the decoded image in RGB; errors as in `opened`."""
    with opened(file, where) as image:
        return _rgb(image)


def _check(image: "Image", where: str) -> None:
    if image.width * image.height > PIXELS:
        raise ZiaError(_too_large(where))
    # A PPM of more than 8 bits is scaled to 16 by Pillow, whatever its largest value is.
    scaled = image.mode == "I" and image.format == "PPM"
    if image.mode not in (*AS_THEY_ARE, *WITH_ALPHA, *GREY_16) and not scaled:
        raise ZiaError(
            f"{where} has pixels of Pillow's mode {image.mode}, whose range in black and white is "
            "not known: save it with 8 bits a channel"
        )


def _rgb(image: "Image") -> "Image":
    from PIL import Image

    if image.mode in GREY_16 or image.mode == "I":
        image = _eight_bits(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    canvas = Image.new("RGBA", image.size, WHITE)
    return Image.alpha_composite(canvas, image.convert("RGBA")).convert("RGB")


def _eight_bits(image: "Image") -> "Image":
    """Scale grey of up to 16 bits by its range: the largest value is white."""
    import numpy as np
    from PIL import Image

    tags: Any = getattr(image, "tag_v2", {})
    largest = 2 ** tags.get(BITS, (16,))[0] - 1
    values = np.asarray(image).astype(np.float64)
    grey = np.rint(values.clip(0, largest) * (255 / largest))
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        grey = 255 - grey
    if (transparent := image.info.get("transparency")) is not None:
        grey[values == transparent] = 255
    return Image.fromarray(grey.astype(np.uint8))


def _unread(where: str, reason: str) -> str:
    return f"{where} cannot be read as an image ({reason:.100}): fetch it again"


def _too_large(where: str) -> str:
    return f"{where} has more than {PIXELS:,} pixels: make it smaller"
