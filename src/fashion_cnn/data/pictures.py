"""Read pictures as uint8 pixels: with a size limit, and upright.

A picture is what a user passes: a file, an array or a Pillow image. An image is an array of pixels.
"""

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile, jpeg_factory

from fashion_cnn.data import picture_limits as limits
from fashion_cnn.data.picture_colors import to_8_bit, to_srgb
from fashion_cnn.data.picture_files import (
    FORMAT_NAMES,
    HEADER_BYTES,
    advice_for,
    is_picture,
    picture_format,
    walk,
)
from fashion_cnn.data.picture_limits import MAX_JPEG_PIXELS

GRAY_MODES = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")  # of Pillow
STRIP_ROWS = 16  # of a picture that is reduced
MIN_CONTRAST = 8  # of 256 levels; less counts as one color

Picture = np.ndarray | Path | str | BinaryIO | Any  # the last: a Pillow image


def read_rgba(
    picture: Picture, min_edge: int | None = None, max_pixels: int = MAX_JPEG_PIXELS
) -> np.ndarray:
    """Read a picture with its transparency, upright and in sRGB.

    The colors of an embedded RGB profile, such as Display P3, are converted. `pictures.js` does the
    same in a browser.

    Args:
        picture: path, file object, Pillow image, or uint8 array (height, width[, 1, 3 or 4]).
        min_edge: reduce by an integer factor, so that the longest edge keeps at least this many
            pixels. Default: None, the full size.
        max_pixels: of a baseline JPEG; 64 million is the limit of other files, and of what is
            decoded.

    Returns:
        uint8 (height, width, 4): red, green, blue, alpha.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a readable picture.
    """
    return np.asarray(_read_upright(picture, min_edge, max_pixels).convert("RGBA"))


def _read_upright(picture: Picture, min_edge: int | None, max_pixels: int) -> Any:
    """What `read_rgba` returns, as a Pillow image, which is RGB if nothing can be transparent."""
    if isinstance(picture, np.ndarray):
        picture = _array_to_pillow(picture)
    with _open(picture, max_pixels) as image:
        if image is not picture:  # the caller's image must not change
            if min_edge:
                image.draft(None, (min_edge, min_edge))  # a JPEG is reduced already while decoding
            limits.check_pixels(image, limits.MAX_DECODED_PIXELS)
        upright = to_8_bit(image)
        if upright is picture:
            upright = ImageOps.exif_transpose(image)
        else:  # in place, because a copy of a large photo takes much memory
            ImageOps.exif_transpose(upright, in_place=True)
        if upright.mode in ("L", "LA") and "transparency" not in upright.info:
            upright = _reduce(upright, min_edge)  # now, because it takes less memory than later
        has_alpha = "A" in upright.getbands() or "transparency" in upright.info
        mode = "RGBA" if has_alpha else "RGB"
        converted = upright if upright.mode == mode else upright.convert(mode)
        converted = _reduce(converted, min_edge)
        if profile := image.info.get("icc_profile"):
            converted = to_srgb(converted, profile)
        converted.load()  # before the file is closed
        return converted


def picture_cost(
    content: bytes, min_edge: int, max_pixels: int = MAX_JPEG_PIXELS
) -> tuple[int, int]:
    """How much work a picture is: its pixels, and how many of them are in memory at once.

    Only headers are read. The pixels of a JPEG count once for every ten of its scans, those of WebP
    twice in memory. The arguments and errors are those of `read_rgba`.
    """
    with _open(io.BytesIO(content), max_pixels) as image:
        pixels = decoded = image.width * image.height
        if isinstance(image, JpegImageFile):
            scans = limits.count_scans(content)
            if scans == 1:  # else all of its coefficients are in memory
                image.draft(None, (min_edge, min_edge))
                decoded = image.width * image.height
            pixels = pixels * max(10, scans) // 10
        return pixels, decoded * (2 if image.format == "WEBP" else 1)


def read_picture(picture: Picture, size: tuple[int, int], channels: int = 1) -> np.ndarray:
    """Read a picture that must have this size (height, width): uint8 (height, width, channels).

    Transparent pixels become black, the background of Fashion-MNIST. An array is only checked.
    Raises the errors of `read_rgba`, and a ValueError for another size.
    """
    shape = (*size, channels)
    if isinstance(picture, np.ndarray):
        pixels = picture[..., np.newaxis] if picture.ndim == 2 else picture
        if pixels.dtype != np.uint8 or pixels.shape != shape:
            got = f"{picture.dtype} {picture.shape}"
            raise ValueError(f"picture: got {got}; expected raw pixels, uint8 {shape}")
        return pixels
    start = picture.tell() if hasattr(picture, "tell") else 0
    with _open(picture) as image:  # before it is decoded; it may have to be rotated
        stored = image.size
    if sorted(stored) == sorted(size):
        if hasattr(picture, "seek"):
            picture.seek(start)
        upright = _read_upright(picture, None, MAX_JPEG_PIXELS)
        stored = upright.size
    if stored != size[::-1]:
        got = f"{stored[0]}x{stored[1]} pixels"
        raise ValueError(f"{_display_name(picture)}: {got}; expected {size[1]}x{size[0]}")
    image = _composite(upright, "black").convert("L" if channels == 1 else "RGB")
    return np.asarray(image).reshape(shape)


def read_on_white(
    picture: Picture, min_edge: int | None = None, max_pixels: int = MAX_JPEG_PIXELS
) -> np.ndarray:
    """`read_rgba`, composited onto white: uint8 (height, width, 3)."""
    image = _read_upright(picture, min_edge, max_pixels)
    return np.asarray(_composite(image, "white").convert("RGB"))


def fit_picture(picture: Picture, size: tuple[int, int], channels: int = 3) -> np.ndarray:
    """Read a picture and resize it to (height, width): uint8 (height, width, channels).

    Nothing is cropped, so the aspect ratio may change. Transparent pixels become white. Raises the
    errors of `read_rgba`.
    """
    return resize(read_on_white(picture, 2 * max(size)), size, channels)


def resize(photo: np.ndarray, size: tuple[int, int], channels: int = 3) -> np.ndarray:
    """Resize a photo, uint8 (height, width, 3), to (height, width): (height, width, channels)."""
    image = Image.fromarray(photo).convert("L" if channels == 1 else "RGB")
    if image.size != size[::-1]:
        image = image.resize(size[::-1], Image.Resampling.BICUBIC)
    return np.asarray(image).reshape(*size, channels)


def measure_picture(path: Path) -> dict[str, Any]:
    """`size` (height, width) of a picture as stored, and whether it is `gray`, from its header."""
    with _open(path) as image:
        return {"size": [image.height, image.width], "gray": image.mode in GRAY_MODES}


def find_pictures(arguments: list[str]) -> list[str]:
    """Expand folders, including subfolders, and glob patterns to sorted paths of pictures."""
    paths: list[str] = []
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            files = (Path(root, name) for root, _, names in walk(path) for name in names)
            paths += sorted(str(file) for file in files if is_picture(file))
        elif any(wildcard in argument for wildcard in "*?[") and not path.exists():
            paths += sorted(p for p in glob(argument, recursive=True) if Path(p).is_file())
        else:
            paths.append(argument)
    return paths


def _reduce(image: Any, min_edge: int | None) -> Any:
    """Average blocks of pixels, so that the longest edge keeps at least `min_edge`."""
    factor = max(image.size) // min_edge if min_edge else 1
    if factor < 2:
        return image
    # in strips, because Pillow first makes a copy of a picture with transparency
    (width, height), rows = image.size, STRIP_ROWS * factor
    reduced = Image.new(image.mode, (-(-width // factor), -(-height // factor)))
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(height, top + rows)))
        reduced.paste(strip.reduce(factor), (0, top // factor))
    reduced.info = image.info
    return reduced


def _composite(image: Any, background: str) -> Any:
    """A Pillow image on black or white: on the other one if it would vanish."""
    if image.mode != "RGBA":
        return image
    composite = Image.alpha_composite(Image.new("RGBA", image.size, background), image)
    if _is_one_color(composite):
        opposite = "white" if background == "black" else "black"
        other = Image.alpha_composite(Image.new("RGBA", image.size, opposite), image)
        return composite if _is_one_color(other) else other
    return composite


def _is_one_color(image: Any) -> bool:
    return all(high - low < MIN_CONTRAST for low, high in image.getextrema()[:3])


def _array_to_pillow(image: np.ndarray) -> Any:
    squeezed = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
    is_picture = image.size and image.ndim > 1 and squeezed.shape[2:] in ((), (3,), (4,))
    if image.dtype != np.uint8 or not is_picture:
        raise ValueError(
            f"picture: got {image.dtype} {image.shape}; expected uint8 (height, width) or "
            "(height, width, 1, 3 or 4)"
        )
    return Image.fromarray(squeezed)


def _display_name(picture: Any) -> str:
    return str(picture) if isinstance(picture, str | Path) else "picture"


@contextmanager
def _open(picture: Any, max_pixels: int = MAX_JPEG_PIXELS) -> Iterator[Any]:
    """Open a Pillow image after checking format and size; its errors become one-line errors."""
    name = _display_name(picture)
    try:
        if isinstance(picture, Image.Image):
            yield picture
            return
        with _open_file(picture, max_pixels) as image:
            yield image
    except FileNotFoundError:
        raise FileNotFoundError(f"{name}: no such file") from None
    except (Image.DecompressionBombError, Image.UnidentifiedImageError, SyntaxError) as error:
        raise ValueError(f"{name}: not a picture ({FORMAT_NAMES}): {error}") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from None
    except (struct.error, TypeError, LookupError, EOFError, ArithmeticError) as error:
        raise ValueError(f"{name}: damaged ({error})") from None  # Pillow raises these, too


def _open_file(picture: Any, max_pixels: int) -> Any:
    (format_name,) = formats = _allowed_formats(picture)
    if format_name not in ("JPEG", "PNG"):
        image = Image.open(picture, formats=formats)
        limits.check_pixels(image, max_pixels)
        return image
    is_path = isinstance(picture, str | Path)
    if is_path and Path(picture).stat().st_size > limits.MAX_FILE_BYTES:
        raise ValueError(f"more than {limits.MAX_FILE_BYTES:,} bytes")
    content = Path(picture).read_bytes() if is_path else picture.read()
    limits.check_parts(content, format_name)
    file = io.BytesIO(content)
    if format_name == "PNG":
        image = Image.open(file, formats=formats)
    else:
        image = jpeg_factory(file)  # `Image.open` would refuse more than 178,956,970 pixels
        limits.check_scans(image, content)
    limits.check_pixels(image, max_pixels)
    return image


def _allowed_formats(picture: Any) -> tuple[str]:
    """The format that the first bytes tell, whatever the file name; ValueError for others."""
    if isinstance(picture, str | Path):
        with open(picture, "rb") as file:
            header = file.read(HEADER_BYTES)
    elif hasattr(picture, "read"):
        position = picture.tell()
        header = picture.read(HEADER_BYTES)
        picture.seek(position)
    else:
        got = type(picture).__name__
        raise ValueError(f"got {got}; expected a path, a file, an array or a Pillow image")
    format_name = picture_format(header)
    if format_name is None:
        advice = advice_for(_display_name(picture))
        raise ValueError(f"not a picture ({FORMAT_NAMES}){advice}")
    if format_name == "HEIF":
        try:
            import pillow_heif
        except ModuleNotFoundError:
            raise ValueError('HEIC is read with pip install "fashion-cnn[heic]"') from None
        pillow_heif.register_heif_opener()
    elif format_name == "AVIF":
        Image.init()
        if format_name not in Image.OPEN:
            raise ValueError("AVIF is read with Pillow 11.3 or newer")
    return (format_name,)
