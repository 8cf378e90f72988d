"""The Open Inference Protocol, version 2, over HTTP: request bytes to pixels, and back.

https://github.com/kserve/open-inference-protocol, with its extension for raw tensor data.
"""

import json
import math
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, Field, SkipValidation, StrictInt, ValidationError
from pydantic_core import from_json

EXTENSIONS = ["binary_tensor_data"]
HEADER_LENGTH = "inference-header-content-length"  # length of the JSON part of a body, in bytes
INPUT, OUTPUT = "pixels", "probabilities"  # tensor names
MAX_IMAGES = 10_000  # per request

Parameters = dict[str, Any] | None


class InputTensor(BaseModel):
    name: Literal["pixels"]
    datatype: Literal["UINT8"]
    # a million wrong items must not make a million error objects
    shape: list[StrictInt] = Field(fail_fast=True, description="[n, height, width, channels]")
    parameters: Parameters = None
    data: SkipValidation[list[Any]] | None = Field(
        default=None,
        description="Pixel values 0 to 255, nested or flat. Omit it to send raw bytes instead.",
    )


class RequestedOutput(BaseModel):
    name: Literal["probabilities"]
    parameters: Parameters = None


class InferBody(BaseModel):
    """The JSON part of an inference request."""

    id: str | None = None
    parameters: Parameters = None
    inputs: list[InputTensor] = Field(min_length=1, max_length=1)
    outputs: list[RequestedOutput] | None = Field(None, max_length=1)


@dataclass(frozen=True)
class InferRequest:
    """A valid inference request."""

    id: str | None  # chosen by the client; the response repeats it
    images: np.ndarray  # uint8 (n, height, width, channels)
    binary: bool  # whether the response carries the probabilities as raw bytes


def parse_infer_request(
    body: bytes, json_length: int | None, image_shape: tuple[int, int, int]
) -> InferRequest:
    """Parse a body of JSON, `json_length` bytes of it if the tensor's raw bytes follow."""
    if json_length is not None and not 0 < json_length <= len(body):
        raise ValueError(f"{HEADER_LENGTH}: got {json_length}; the body has {len(body)} bytes")
    try:
        request = InferBody.model_validate(from_json(body[:json_length], allow_inf_nan=False))
    except ValidationError as error:
        raise ValueError(validation_message(error.errors(include_url=False))) from None
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    binary = (request.parameters or {}).get("binary_data_output", False)
    if request.outputs:
        parameters = request.outputs[0].parameters or {}
        if "classification" in parameters:
            raise ValueError(f"output {OUTPUT!r}: classification is not supported")
        binary = parameters.get("binary_data", binary)
    raw = memoryview(body)[json_length:] if json_length is not None else b""
    return InferRequest(request.id, _read_pixels(request.inputs[0], raw, image_shape), bool(binary))


def validation_message(errors: Sequence[Any]) -> str:
    """The first of Pydantic's errors in one line: field, value and expectation."""
    error = errors[0]
    field = ".".join(map(str, error["loc"])) or "request"
    expected = error["msg"].replace("Input should be", "expected").split(" or instance of")[0]
    return f"{field}: got {_short(error['input'])}; {expected}"


def write_response(
    request: InferRequest, probabilities: np.ndarray, model: str, version: str
) -> tuple[bytes, dict[str, str]]:
    """The body and headers of a response; probabilities are float32 (n, classes)."""
    output: Any = {"name": OUTPUT, "datatype": "FP32", "shape": list(probabilities.shape)}
    response: Any = {"model_name": model, "model_version": version, "outputs": [output]}
    if request.id is not None:
        response["id"] = request.id
    if request.binary:
        raw = probabilities.astype("<f4").tobytes()
        output["parameters"] = {"binary_data_size": len(raw)}
    else:
        output["data"] = probabilities.ravel().tolist()
    head = json.dumps(response, separators=(",", ":")).encode()
    if not request.binary:
        return head, {"content-type": "application/json"}
    return head + raw, {"content-type": "application/octet-stream", HEADER_LENGTH: str(len(head))}


def _read_pixels(
    tensor: InputTensor, raw: bytes | memoryview, image_shape: tuple[int, int, int]
) -> np.ndarray:
    """uint8 images from the JSON data of a tensor, or from the raw bytes after the JSON."""
    field, shape = f"input {INPUT!r}", tuple(tensor.shape)
    if shape[1:] != image_shape or not 1 <= shape[0] <= MAX_IMAGES:
        expected = ", ".join(map(str, image_shape))
        raise ValueError(
            f"{field}: got shape {_short(tensor.shape)}; "
            f"expected [n, {expected}] with n from 1 to {MAX_IMAGES:,}"
        )
    size = (tensor.parameters or {}).get("binary_data_size")
    if size is None:
        if raw:
            raise ValueError(f"{field}: no binary_data_size, but {len(raw)} bytes after the JSON")
        return _pixels_from_json(tensor.data, shape, field)
    if "data" in tensor.model_fields_set:
        raise ValueError(f"{field}: got data as JSON and as raw bytes; expected one of them")
    if not size == len(raw) == math.prod(shape):
        raise ValueError(
            f"{field}: got binary_data_size {_short(size)} and {len(raw)} bytes after the JSON; "
            f"expected {math.prod(shape)}"
        )
    return np.frombuffer(raw, np.uint8).reshape(shape)


def _pixels_from_json(data: Any, shape: tuple[int, ...], field: str) -> np.ndarray:
    if not isinstance(data, list):
        raise ValueError(f"{field}: got data {_short(data)}; expected a list of integers")
    data_shape = [len(data)]
    while data and isinstance(data[0], list):
        data_shape.append(len(data[0]))
        if any(not isinstance(row, list) or len(row) != data_shape[-1] for row in data):
            raise ValueError(f"{field}: data is ragged; expected lists of one length")
        data = list(chain.from_iterable(data))
    if tuple(data_shape) not in ((math.prod(shape),), shape):
        raise ValueError(
            f"{field}: data has shape {_short(data_shape)}; expected {list(shape)}, or a flat list"
        )
    try:
        return np.frombuffer(bytes(data), np.uint8).reshape(shape)
    except (TypeError, ValueError):
        raise ValueError(f"{field}: got other data; expected integers from 0 to 255") from None


def _short(value: Any) -> str:
    return reprlib.repr(value)[:60]
