"""Read pictures as uint8 pixels: with a size limit, and upright.

A picture is what a user passes: a file, an array or a Pillow image. An image is an array of pixels.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
MAX_DECODED_PIXELS = 64_000_000  # checked before decoding
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1")  # of phones; needs the extra `heic`
GRAY_MODES = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L")  # of Pillow
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".heic", ".heif")

Picture = np.ndarray | Path | str | BinaryIO | Any  # the last: a Pillow image


def read_rgba(picture: Picture, min_edge: int | None = None) -> np.ndarray:
    """Read a picture with its transparency, upright.

    Args:
        picture: path, file object, Pillow image, or uint8 array (height, width[, 1, 3 or 4]).
        min_edge: reduce by an integer factor, so that the longest edge keeps at least this many
            pixels. Default: None, the full size.

    Returns:
        uint8 (height, width, 4): red, green, blue, alpha.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a readable picture.
    """
    if isinstance(picture, np.ndarray):
        picture = _array_to_pillow(picture)
    with _open(picture) as image:
        if min_edge and image.format == "JPEG":  # reduces already while decoding
            image.draft(None, (min_edge, min_edge))
        upright = _to_8_bit(image)
        if upright is picture:  # the caller's image, which must not change
            upright = ImageOps.exif_transpose(image)
        else:  # in place, because a copy of a large photo takes much memory
            ImageOps.exif_transpose(upright, in_place=True)
        has_alpha = "A" in upright.getbands() or "transparency" in upright.info
        mode = "RGBA" if has_alpha else "RGB"
        converted = upright if upright.mode == mode else upright.convert(mode)
        if min_edge and (factor := max(converted.size) // min_edge) > 1:
            converted = converted.reduce(factor)
        return np.asarray(converted.convert("RGBA"))


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
    rgba = read_rgba(picture)
    height, width = rgba.shape[:2]
    if (height, width) != size:
        got = f"{width}x{height} pixels"
        raise ValueError(f"{_display_name(picture)}: {got}; expected {size[1]}x{size[0]}")
    image = _composite(rgba, "black").convert("L" if channels == 1 else "RGB")
    return np.asarray(image).reshape(shape)


def read_on_white(picture: Picture, min_edge: int | None = None) -> np.ndarray:
    """`read_rgba`, composited onto white: uint8 (height, width, 3)."""
    return np.asarray(_composite(read_rgba(picture, min_edge), "white").convert("RGB"))


def fit_picture(picture: Picture, size: tuple[int, int], channels: int = 3) -> np.ndarray:
    """Read a picture and resize it to (height, width): uint8 (height, width, channels).

    Nothing is cropped, so the aspect ratio may change. Transparent pixels become white. Raises the
    errors of `read_rgba`.
    """
    image = Image.fromarray(read_on_white(picture, 2 * max(size)))
    image = image.convert("L" if channels == 1 else "RGB")
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
            files = (p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            paths += sorted(map(str, files))
        elif any(wildcard in argument for wildcard in "*?[") and not path.exists():
            paths += sorted(p for p in glob(argument, recursive=True) if Path(p).is_file())
        else:
            paths.append(argument)
    return paths


def _composite(rgba: np.ndarray, background: str) -> Any:
    """A Pillow image of `rgba` on a background of one color."""
    image = Image.fromarray(rgba)
    return Image.alpha_composite(Image.new("RGBA", image.size, background), image)


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
def _open(picture: Any) -> Iterator[Any]:
    """Open a Pillow image after checking format and size; its errors become one-line errors."""
    name = _display_name(picture)
    try:
        if isinstance(picture, Image.Image):
            yield picture
            return
        with Image.open(picture, formats=_allowed_formats(picture)) as image:
            if image.width * image.height > MAX_DECODED_PIXELS:
                size = f"{image.width}x{image.height} pixels"
                raise ValueError(f"{size}; at most {MAX_DECODED_PIXELS:,}")
            yield image
    except FileNotFoundError:
        raise FileNotFoundError(f"{name}: no such file") from None
    except (Image.DecompressionBombError, Image.UnidentifiedImageError, SyntaxError) as error:
        raise ValueError(f"{name}: not a picture (PNG, JPEG, WebP, GIF or BMP): {error}") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from None
    except (struct.error, TypeError, LookupError, EOFError, ArithmeticError) as error:
        raise ValueError(f"{name}: damaged ({error})") from None  # Pillow raises these, too


def _allowed_formats(picture: Any) -> tuple[str, ...]:
    """`FORMATS`, and HEIC if the first bytes say so, whatever the file name."""
    if isinstance(picture, str | Path):
        with open(picture, "rb") as file:
            header = file.read(12)
    elif hasattr(picture, "read"):
        position = picture.tell()
        header = picture.read(12)
        picture.seek(position)
    else:
        kind = type(picture).__name__
        raise ValueError(f"got {kind}; expected a path, a file, an array or a Pillow image")
    if header[4:8] != b"ftyp" or header[8:] not in HEIC_BRANDS:
        return FORMATS
    try:
        import pillow_heif
    except ModuleNotFoundError:
        raise ValueError("HEIC is read with pip install 'fashion-cnn[heic]'") from None
    pillow_heif.register_heif_opener()
    return (*FORMATS, "HEIF")


def _to_8_bit(image: Any) -> Any:
    """16-bit gray, which Pillow would clip at 255, scaled to 8 bits; other images unchanged."""
    if not image.mode.startswith("I"):
        return image
    gray = np.asarray(image).astype(np.uint32) >> 8
    converted = Image.fromarray(gray.astype(np.uint8))
    if "exif" in image.info:
        converted.info["exif"] = image.info["exif"]
    return converted
