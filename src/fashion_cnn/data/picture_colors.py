"""Pillow images of other colors in, of 8 bits and in sRGB, out."""

import io
from typing import Any

import numpy as np
from PIL import Image


def to_8_bit(image: Any) -> Any:
    """Gray of 16 bits and more, which Pillow would clip at 255, scaled; other images unchanged."""
    if image.mode[0] not in "IF":
        _check_16_bit_color(image)
        return image
    values = np.asarray(image)
    low, span = _value_range(float(values.min()), float(values.max()), image.mode == "F")
    pixels = np.empty(values.shape, np.uint8)
    for row, scaled in zip(values, pixels, strict=True):
        scaled[:] = np.minimum((row - low) * (256 / span), 255)
    converted = Image.fromarray(pixels)
    if "exif" in image.info:
        converted.info["exif"] = image.info["exif"]
    return converted


def _value_range(low: float, high: float, is_float: bool) -> tuple[float, float]:
    """Which value becomes 0, and how far above it is 256: by the least and the greatest value.

    Up to 255 and from 0 to 1 values are what they are in other files. Greater ones have the
    smallest even number of bits that holds them, as those of cameras. Others span their own range.
    """
    if not np.isfinite([low, high]).all():
        raise ValueError("pixels that are not finite numbers")
    if low < 0 or not 1 / 16 < high < 1 << 16:
        return low, high - low or 1.0
    if is_float and high <= 1:
        return 0.0, 1.0
    bits = max(8, int(high).bit_length())
    return 0.0, float(1 << bits + bits % 2)


def to_srgb(image: Any, profile: bytes) -> Any:
    """Convert the colors of an RGB profile; other and damaged profiles are ignored."""
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        is_rgb = source.profile.xcolor_space.strip() == "RGB"
        if not is_rgb or "sRGB" in ImageCms.getProfileDescription(source):
            return image
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"))
    except (OSError, ImageCms.PyCMSError):
        return image


def _check_16_bit_color(image: Any) -> None:
    """Refuse 16-bit color that would be almost black, as Pillow reads only the upper 8 bits."""
    tiles = getattr(image, "tile", None)  # how the file stores the pixels, until they are decoded
    if not tiles or not image.mode.startswith("RGB") or ";16" not in str(tiles[0][3]):
        return
    extrema = image.getextrema()
    is_opaque = all(low == high for low, high in extrema[3:])
    if is_opaque and all(high < 16 for _, high in extrema[:3]):
        raise ValueError("16-bit color below 4,096; expected 0..65,535: scale it, or save 8 bits")
