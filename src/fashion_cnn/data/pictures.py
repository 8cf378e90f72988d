"""Picture files of a network's own size in, uint8 pixels out; bounded, and never upside down."""

import io
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fashion_cnn.data.dataset import channels_last

KINDS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
MOST_PIXELS = 64_000_000  # refused before they are decoded
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")

Picture = np.ndarray | Path | str | BinaryIO | Any  # the last: a PIL image


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
    from PIL import Image

    name = str(picture) if isinstance(picture, str | Path) else "picture"
    if isinstance(picture, np.ndarray):
        return _checked(picture, size, channels)
    try:
        if isinstance(picture, Image.Image):
            return _pixels(picture, size, channels)
        with Image.open(picture, formats=KINDS) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise ValueError(f"{opened.width}x{opened.height} pixels; at most {MOST_PIXELS:,}")
            return _pixels(opened, size, channels)
    except FileNotFoundError:
        raise FileNotFoundError(f"{name}: no such file") from None
    except (Image.DecompressionBombError, Image.UnidentifiedImageError, SyntaxError) as error:
        raise ValueError(f"{name}: not a picture (PNG, JPEG, WebP, GIF or BMP): {error}") from None
    except (OSError, ValueError, io.UnsupportedOperation) as error:
        raise ValueError(f"{name}: {error}") from None


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
            found += sorted(str(p) for p in Path().glob(word)) if not path.is_absolute() else [word]
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


def _pixels(picture: Any, size: tuple[int, int], channels: int) -> np.ndarray:
    from PIL import Image, ImageOps

    picture = ImageOps.exif_transpose(picture)
    if picture.size[::-1] != size:
        width, height = picture.size
        raise ValueError(f"{width}x{height} pixels; expected {size[1]}x{size[0]}")
    if picture.mode.startswith("I"):  # 16 bits a pixel
        grey = (np.asarray(picture).astype(np.uint32) >> 8).astype(np.uint8)
        seen = Image.fromarray(grey).convert("RGBA")
    else:
        seen = picture.convert("RGBA")
    black = Image.new("RGBA", seen.size, (0, 0, 0, 255))
    shown = Image.alpha_composite(black, seen).convert("L" if channels == 1 else "RGB")
    return channels_last(np.asarray(shown)[np.newaxis])[0]
