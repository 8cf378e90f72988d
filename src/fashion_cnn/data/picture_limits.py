"""What a picture may cost: its bytes or an opened Pillow image in; an error out if it is too much.

Everything is checked before pixels are decoded, because decoding cannot be interrupted.
"""

from typing import Any

from PIL.JpegImagePlugin import JpegImageFile

MAX_FILE_BYTES = 1 << 30  # of a JPEG or PNG
MAX_DECODED_PIXELS = 64_000_000  # of what is decoded
MAX_WEBP_PIXELS = 32_000_000  # its decoder takes 15 bytes for each
MAX_JPEG_PIXELS = 200_000_000  # of a baseline JPEG, which is reduced while it is decoded
MAX_SCANNED_PIXELS = 2_000_000_000  # of all scans of a JPEG
MAX_SEGMENTS = 2_000  # before the pixels of a JPEG
MAX_CHUNKS = 100_000  # of a PNG


def check_parts(content: bytes, format_name: str) -> None:
    """Refuse a file of very many parts, for each of which Pillow needs time.

    A JPEG begins with segments, a PNG consists of chunks: a length and that many bytes.
    """
    is_jpeg = format_name == "JPEG"
    limit = MAX_SEGMENTS if is_jpeg else MAX_CHUNKS
    position, parts = (2, 0) if is_jpeg else (8, 0)
    while position + 8 <= len(content):
        parts += 1
        if parts > limit:
            raise ValueError(f"more than {limit:,} {'segments' if is_jpeg else 'chunks'}")
        if not is_jpeg:
            position += 12 + int.from_bytes(content[position : position + 4], "big")
            continue
        mark, code = content[position : position + 2]
        if mark != 0xFF or code in (0x00, 0xFF):
            position += 1  # Pillow passes over what is no marker
        elif code in (0xD9, 0xDA):
            return  # the end, or the first scan
        elif code == 0x01 or 0xD0 <= code <= 0xD8:
            position += 2  # markers without a length
        else:
            position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")


def check_pixels(image: Any, max_pixels: int) -> None:
    """Refuse a file with too many pixels; only a baseline JPEG may have more than are decoded."""
    reason = ""
    if image.format == "WEBP":
        max_pixels = MAX_WEBP_PIXELS
        reason = " in WebP"
    elif not isinstance(image, JpegImageFile):
        max_pixels = min(max_pixels, MAX_DECODED_PIXELS)
    elif "progressive" in image.info and max_pixels > MAX_DECODED_PIXELS:
        max_pixels = MAX_DECODED_PIXELS
        reason = " in a progressive JPEG, which takes more memory; save it as a baseline JPEG"
    if image.width * image.height > max_pixels:
        size = f"{image.width}x{image.height} pixels"
        raise ValueError(f"{size}; at most {max_pixels:,}{reason}")


def check_scans(image: Any, content: bytes) -> None:
    """Refuse a JPEG that passes over its pixels very often."""
    scans, pixels = count_scans(content), image.width * image.height
    if scans * pixels > MAX_SCANNED_PIXELS and scans > 1:
        raise ValueError(
            f"{scans:,} scans of {image.width}x{image.height} pixels; at most "
            f"{MAX_SCANNED_PIXELS:,} pixels in all scans; save it as a baseline JPEG"
        )


def count_scans(content: bytes) -> int:
    """The scans of a JPEG, each of which covers all its pixels; those of thumbnails count, too."""
    return content.count(b"\xff\xda")
