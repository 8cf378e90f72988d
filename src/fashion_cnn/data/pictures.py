"""Picture files in, uint8 pixels out; bounded, and never upside down."""

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fashion_cnn.data.dataset import channels_last

KINDS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
MAX_PIXELS = 64_000_000  # refused before they are decoded
HEIC = (".heic", ".heif")  # what phones write; read with the extra `heic`
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1")
GREY = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L")  # Pillow's modes
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", *HEIC)

Picture = np.ndarray | Path | str | BinaryIO | Any  # the last: a PIL image


def read_rgba(picture: Picture, edge: int | None = None) -> np.ndarray:
    """Red, green, blue and opacity of a picture, upright: uint8 (height, width, 4).

    Args:
        picture: path, file object, PIL image, or uint8 array (height, width[, 1, 3 or 4]).
        edge: if given, the picture is made smaller by a whole number, so that its longest edge is
            still at least so long; JPEGs are not even decoded at full size.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no picture that can be read.
    """
    if isinstance(picture, np.ndarray):
        picture = _from_array(picture)
    with _opened(picture) as image:
        from PIL import ImageOps

        if edge and image.format == "JPEG":
            image.draft(None, (edge, edge))
        upright = _eight_bits(image)
        of_caller = upright is picture
        if of_caller:
            upright = ImageOps.exif_transpose(upright)
        else:  # a copy of a large photo is a lot of memory
            ImageOps.exif_transpose(upright, in_place=True)
        clear = "A" in upright.getbands() or "transparency" in upright.info
        mode = "RGBA" if clear else "RGB"
        colours = upright if upright.mode == mode else upright.convert(mode)
        if edge and (factor := max(colours.size) // edge) > 1:
            colours = colours.reduce(factor)
        return np.asarray(colours.convert("RGBA"))


def read_picture(picture: Picture, size: tuple[int, int], channels: int = 1) -> np.ndarray:
    """Pixels of just this size, as uint8 (height, width, channels).

    What is transparent becomes black, the background of Fashion-MNIST.

    Args:
        picture: uint8 array (height, width[, channels]), path, file object, or PIL image.
        size: (height, width).
        channels: 1 or 3.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no picture that can be read, or of another size.
    """
    if isinstance(picture, np.ndarray):
        return _checked(picture, size, channels)
    from PIL import Image

    seen = Image.fromarray(read_rgba(picture))
    if seen.size[::-1] != size:
        found = f"{seen.width}x{seen.height} pixels"
        raise ValueError(f"{_name(picture)}: {found}; expected {size[1]}x{size[0]}")
    black = Image.new("RGBA", seen.size, (0, 0, 0, 255))
    shown = Image.alpha_composite(black, seen).convert("L" if channels == 1 else "RGB")
    return channels_last(np.asarray(shown)[np.newaxis])[0]


def read_on_white(picture: Picture, edge: int | None = None) -> np.ndarray:
    """`read_rgba` on white paper: uint8 (height, width, 3)."""
    from PIL import Image

    seen = Image.fromarray(read_rgba(picture, edge))
    white = Image.new("RGBA", seen.size, "white")
    return np.asarray(Image.alpha_composite(white, seen).convert("RGB"))


def fit_picture(picture: Picture, size: tuple[int, int], channels: int = 3) -> np.ndarray:
    """The whole of a picture at just this size, whatever its own: uint8 (height, width, channels).

    Both sides are scaled on their own, so nothing is cut off; what is transparent becomes white.
    Class folders are read by this, and photos that a network learnt from such folders is asked.

    Args:
        picture: path, file object, PIL image, or uint8 array (height, width[, 1, 3 or 4]).
        size: (height, width).
        channels: 1 or 3.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no picture that can be read.
    """
    from PIL import Image

    seen = Image.fromarray(read_on_white(picture, 2 * max(size)))
    seen = seen.convert("L" if channels == 1 else "RGB")
    small = seen if seen.size == size[::-1] else seen.resize(size[::-1], Image.Resampling.BICUBIC)
    return channels_last(np.asarray(small)[np.newaxis])[0]


def measure_picture(path: Path) -> tuple[int, int, bool]:
    """Height and width as stored, and whether it is grey, from a file's first bytes.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no picture of a kind and size that is read.
    """
    with _opened(path) as image:
        return image.height, image.width, image.mode in GREY


def find_pictures(words: list[str]) -> list[str]:
    """The paths that words of a command line stand for, in order.

    A folder stands for the pictures in it, and below, by name; a pattern for what matches it;
    anything else for itself.
    """
    found: list[str] = []
    for word in words:
        path = Path(word)
        if path.is_dir():
            inside = (p for p in path.rglob("*") if p.suffix.lower() in ENDINGS and p.is_file())
            found += sorted(map(str, inside))
        elif any(sign in word for sign in "*?[") and not path.exists():
            found += sorted(name for name in glob(word, recursive=True) if Path(name).is_file())
        else:
            found.append(word)
    return found


def _checked(image: np.ndarray, size: tuple[int, int], channels: int) -> np.ndarray:
    expected = (*size, channels)
    pixels = image[..., np.newaxis] if image.ndim == 2 else image
    if pixels.dtype != np.uint8 or pixels.shape != expected:
        raise ValueError(
            f"picture: got {image.dtype} {image.shape}; expected raw pixels, uint8 {expected}"
        )
    return pixels


def _from_array(image: np.ndarray) -> Any:
    from PIL import Image

    flat = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
    if image.dtype != np.uint8 or flat.size == 0 or flat.shape[2:] not in ((), (3,), (4,)):
        raise ValueError(
            f"picture: got {image.dtype} {image.shape}; expected uint8 (height, width) or "
            "(height, width, 1, 3 or 4)"
        )
    return Image.fromarray(flat)


def _name(picture: Any) -> str:
    return str(picture) if isinstance(picture, str | Path) else "picture"


@contextmanager
def _opened(picture: Any) -> Iterator[Any]:
    """A PIL image of the kinds and the size that are read; its faults as ours."""
    from PIL import Image

    name = _name(picture)
    try:
        if isinstance(picture, Image.Image):
            yield picture
            return
        with Image.open(picture, formats=_kinds(picture)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width}x{image.height} pixels; at most {MAX_PIXELS:,}")
            yield image
    except FileNotFoundError:
        raise FileNotFoundError(f"{name}: no such file") from None
    except (Image.DecompressionBombError, Image.UnidentifiedImageError, SyntaxError) as error:
        raise ValueError(f"{name}: not a picture (PNG, JPEG, WebP, GIF or BMP): {error}") from None
    except (OSError, ValueError, io.UnsupportedOperation) as error:
        raise ValueError(f"{name}: {error}") from None
    except (struct.error, TypeError, LookupError, EOFError, ArithmeticError) as error:
        raise ValueError(f"{name}: damaged ({error})") from None  # what spoilt bytes do to Pillow


def _kinds(picture: Any) -> tuple[str, ...]:
    """What a file may be: HEIC, too, if its beginning says so, whatever its name."""
    if isinstance(picture, str | Path):
        with open(picture, "rb") as file:
            head = file.read(12)
    elif hasattr(picture, "read"):
        at = picture.tell()
        head = picture.read(12)
        picture.seek(at)
    else:
        kind = type(picture).__name__
        raise ValueError(f"got {kind}; expected a path, a file, an array or a Pillow image")
    if head[4:8] != b"ftyp" or head[8:] not in HEIC_BRANDS:
        return KINDS
    try:
        import pillow_heif
    except ModuleNotFoundError:
        raise ValueError("HEIC is read with pip install 'fashion-cnn[heic]'") from None
    pillow_heif.register_heif_opener()
    return (*KINDS, "HEIF")


def _eight_bits(image: Any) -> Any:
    """16-bit grey, which Pillow would cut off at 255, as 8-bit grey; others as they are."""
    if not image.mode.startswith("I"):
        return image
    from PIL import Image

    grey = np.asarray(image).astype(np.uint32) >> 8
    eight = Image.fromarray(grey.astype(np.uint8))
    eight.info |= {key: image.info[key] for key in ("exif",) if key in image.info}
    return eight
