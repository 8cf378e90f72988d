"""Photos in requests: what was sent in; the network's input, and its explanation, out."""

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from fastapi import Request
from PIL import Image
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

from fashion_cnn.data.photo import PreparedImage
from fashion_cnn.data.picture_files import HEADER_BYTES, picture_format
from fashion_cnn.data.pictures import picture_cost
from fashion_cnn.inference.classifier import Classifier
from fashion_cnn.inference.drawing import explanation_steps
from fashion_cnn.serving.limits import MAX_BODY_BYTES, MAX_PICTURE_PIXELS
from fashion_cnn.serving.queue import InferenceQueue

FILE_TYPES = "JPEG, PNG or WebP"
SMALL_PIXELS, SMALL_DECODED_PIXELS = 16_000_000, 2_000_000  # of a picture that need not wait


class InvalidInput(Exception):
    """What a client sent is not valid; other errors are the server's, and logged."""


@contextmanager
def errors_of_input() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise InvalidInput(str(error)) from error


async def prepare_photo(
    classifier: Classifier, queue: InferenceQueue, photo: bytes
) -> PreparedImage:
    """The network's input; a large picture waits until there is time and memory for it."""
    with errors_of_input():
        result = await queue.run_in_thread("photo", _prepare_small, classifier, photo)
        if isinstance(result, PreparedImage):
            return result
        pixels, decoded = result
        with queue.reserve(megapixel=pixels / 1e6):
            async with queue.decoding(decoded):
                prepare = classifier.prepare, io.BytesIO(photo), MAX_PICTURE_PIXELS
                return await queue.run_in_thread("megapixel", *prepare, amount=pixels / 1e6)


def _prepare_small(classifier: Classifier, photo: bytes) -> PreparedImage | tuple[int, int]:
    """The network's input of a picture that takes little, or the cost of another one."""
    pixels, decoded = picture_cost(photo, classifier.min_edge, MAX_PICTURE_PIXELS)
    if pixels > SMALL_PIXELS or decoded > SMALL_DECODED_PIXELS:
        return pixels, decoded
    return classifier.prepare(io.BytesIO(photo), MAX_PICTURE_PIXELS)


async def read_photo(request: Request) -> bytes:
    """The bytes of the uploaded photo; 415 if it is of another type."""
    if request.headers.get("content-type", "").lower().startswith("multipart/"):
        parser = MultiPartParser(request.headers, request.stream(), max_files=1, max_fields=8)
        parser.spool_max_size = MAX_BODY_BYTES  # uploads are never written to disk
        try:
            form = await parser.parse()
        except (MultiPartException, KeyError, ValueError) as error:
            raise InvalidInput(f"form: {getattr(error, 'message', error)}") from None
        file = form.get("file")
        if file is None or isinstance(file, str):
            raise InvalidInput("form: no file; expected one in the field 'file'")
        photo = await file.read()
    else:
        photo = await request.body()
    if not photo:
        raise InvalidInput(f"an empty body; expected a photo, {FILE_TYPES}")
    if picture_format(photo[:HEADER_BYTES]) not in ("JPEG", "PNG", "WEBP"):
        raise HTTPException(415, f"unsupported file type; expected {FILE_TYPES}")
    return photo


def explain_photo(classifier: Classifier, prepared: PreparedImage) -> list[dict[str, str]]:
    steps = explanation_steps(prepared, classifier.occlusion_map(prepared))
    return [{"caption": caption, "png": to_png(np.asarray(image))} for caption, image in steps]


def to_png(pixels: np.ndarray) -> str:
    """A PNG in base64 of uint8 (height, width[, 1 or 3])."""
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
