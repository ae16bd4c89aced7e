"""Image files to RGB pixels: one way for the stages that index a set and for those that train on it.

Corrupt EXIF blocks are passed over, and the orientation that an EXIF block asks for is not applied: so read the
loaders on which the published ImageNet results stand.
"""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

from stages.lib.errors import StageError, one_line

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG")  # only these decoders are tried, whatever a file's name says

# Pillow warns of EXIF blocks, palettes and large images while it reads them; what matters is refused below.
warnings.filterwarnings("ignore", module=r"PIL\..*")


def decode(content: bytes, name: object, max_pixels: int | None = None, least: int | None = None) -> Image:
    """The whole image, in the mode of the file (RGB, L, CMYK, ...).

    `least` lets a JPEG be decoded at 1/2, 1/4 or 1/8 of its size, each side keeping at least so many pixels: much faster.
    Raises StageError naming the file if it is no JPEG or PNG, damaged, truncated, or of more than max_pixels.
    """
    from PIL import Image, UnidentifiedImageError

    if not content:
        raise StageError(f"{name}: empty; fetch the file again")
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
        if max_pixels is not None and image.width * image.height > max_pixels:
            raise StageError(f"{name}: {image.width} x {image.height} pixels; at most {max_pixels} (max_pixels) are read")
        if least is not None:
            image.draft(None, (least, least))
        image.load()
    except StageError:
        raise
    except UnidentifiedImageError as error:
        raise StageError(f"{name}: neither JPEG nor PNG inside, or its header is damaged; fetch the file again") from error
    except Exception as error:  # a damaged file can raise nearly anything from a decoder
        raise StageError(f"{name}: cannot be decoded ({one_line(error)}); fetch the file again") from error
    return image


def to_rgb(image: Image) -> Image:
    """Three channels of 8 bits: grey is repeated, CMYK converted, transparency dropped."""
    return image.convert("RGB")
