"""The Open Inference Protocol, version 2, over HTTP: bytes to pixels, probabilities to bytes.

https://github.com/kserve/open-inference-protocol, with its extension for tensors as raw bytes.
"""

import json
import math
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

EXTENSIONS = ("binary_tensor_data",)
HEADER_LENGTH = "inference-header-content-length"  # bytes of JSON before those of tensors
INPUT, OUTPUT = "pixels", "probabilities"  # the names of the two tensors
MAX_IMAGES = 10_000  # of one request


@dataclass(frozen=True)
class Tensors:
    """What a model takes and gives: uint8 (n, height, width, channels), float32 (n, classes).

    Attributes:
        shape: (height, width, channels).
        classes: how many.
    """

    shape: tuple[int, int, int]
    classes: int

    def metadata(self) -> dict[str, Any]:
        """As the protocol describes tensors; -1 stands for any number of images."""
        return {
            "inputs": [{"name": INPUT, "datatype": "UINT8", "shape": [-1, *self.shape]}],
            "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": [-1, self.classes]}],
        }


@dataclass(frozen=True)
class InferRequest:
    """A request for inference.

    Attributes:
        id: the client's own, to be given back.
        images: uint8 (n, height, width, channels).
        binary: whether the answer is wanted as raw bytes.
    """

    id: str | None
    images: np.ndarray
    binary: bool


def read_request(body: bytes, json_length: int | None, tensors: Tensors) -> InferRequest:
    """Read a request for inference.

    Args:
        body: JSON, and after it the bytes of tensors that say so.
        json_length: bytes of JSON; None where there is nothing else.
        tensors: what the model takes and gives.

    Raises:
        ValueError: it is not what the model takes.
    """
    if json_length is not None and not 0 < json_length <= len(body):
        raise ValueError(f"{HEADER_LENGTH}: got {json_length}; the body has {len(body)} bytes")
    request = _json(body[:json_length])
    name = _optional(request, "id", str, "the request")
    wanted = _optional(request, "parameters", dict, "the request") or {}
    (given,) = _only(request.get("inputs"), "inputs", INPUT)
    outputs = _optional(request, "outputs", list, "the request")
    binary = bool(wanted.get("binary_data_output", False))
    if outputs:
        (output,) = _only(outputs, "outputs", OUTPUT)
        asked = _optional(output, "parameters", dict, f"output {OUTPUT!r}") or {}
        if "classification" in asked:
            raise ValueError(f"output {OUTPUT!r}: classification is not supported here")
        binary = bool(asked.get("binary_data", binary))
    raw = memoryview(body)[json_length:] if json_length is not None else b""
    return InferRequest(name, _pixels(given, raw, tensors), binary)


def write_response(
    asked: InferRequest, probabilities: np.ndarray, model: str, version: str
) -> tuple[bytes, dict[str, str]]:
    """An answer's body and headers; probabilities are float32 (n, classes)."""
    output: dict[str, Any] = {
        "name": OUTPUT,
        "datatype": "FP32",
        "shape": list(probabilities.shape),
    }
    answer: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": [output]}
    if asked.id is not None:
        answer["id"] = asked.id
    if not asked.binary:
        output["data"] = probabilities.ravel().tolist()
        return _bytes(answer), {"content-type": "application/json"}
    raw = probabilities.astype("<f4").tobytes()
    output["parameters"] = {"binary_data_size": len(raw)}
    head = _bytes(answer)
    headers = {"content-type": "application/octet-stream", HEADER_LENGTH: str(len(head))}
    return head + raw, headers


def _json(text: bytes) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    try:
        found = json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"got a JSON {type(found).__name__}; expected an object")
    return found


def _bytes(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer, separators=(",", ":")).encode()


def _optional(given: dict[str, Any], key: str, kind: type, where: str) -> Any:
    value = given.get(key)
    if value is not None and not isinstance(value, kind):
        raise ValueError(f"{where}: {key} is {_shown(value)}; expected {kind.__name__}")
    return value


def _only(given: Any, key: str, name: str) -> list[dict[str, Any]]:
    """A list of one object with a name, or an error that says which."""
    if not isinstance(given, list) or not all(isinstance(tensor, dict) for tensor in given):
        raise ValueError(f"{key}: got {_shown(given)}; expected a list of one object")
    if [tensor.get("name") for tensor in given] != [name]:
        names = ", ".join(_shown(tensor.get("name")) for tensor in given) or "none"
        raise ValueError(f"{key}: got {names[:200]}; expected just {name!r}")
    return given


def _pixels(given: dict[str, Any], raw: bytes | memoryview, tensors: Tensors) -> np.ndarray:
    where, shape = f"input {INPUT!r}", given.get("shape")
    if given.get("datatype") != "UINT8":
        raise ValueError(f"{where}: datatype {_shown(given.get('datatype'))}; expected 'UINT8'")
    if (
        not isinstance(shape, list)
        or not all(type(n) is int for n in shape)
        or tuple(shape[1:]) != tensors.shape
        or not 1 <= shape[0] <= MAX_IMAGES
    ):
        expected = ", ".join(map(str, tensors.shape))
        raise ValueError(
            f"{where}: shape {_shown(shape)}; expected [n, {expected}], n from 1 to {MAX_IMAGES:,}"
        )
    parameters = _optional(given, "parameters", dict, where) or {}
    size = parameters.get("binary_data_size")
    if size is not None and "data" in given:
        raise ValueError(f"{where}: has data as JSON and as raw bytes; expected one of them")
    if size is None:
        if raw:
            raise ValueError(f"{where}: no binary_data_size, but {len(raw)} bytes after the JSON")
        return _from_json(given.get("data"), tuple(shape), where)
    if not size == len(raw) == math.prod(shape):
        raise ValueError(
            f"{where}: binary_data_size {_shown(size)} and {len(raw)} bytes after the JSON; "
            f"expected {math.prod(shape)}"
        )
    return np.frombuffer(raw, np.uint8).reshape(shape)


def _from_json(data: Any, shape: tuple[int, ...], where: str) -> np.ndarray:
    if not isinstance(data, list):
        raise ValueError(f"{where}: data is {_shown(data)}; expected a list of whole numbers")
    found = [len(data)]
    while data and isinstance(data[0], list):
        found.append(len(data[0]))
        if any(not isinstance(row, list) or len(row) != found[-1] for row in data):
            raise ValueError(f"{where}: data is no full tensor; expected lists of one length")
        data = list(chain.from_iterable(data))
    if tuple(found) not in ((math.prod(shape),), shape):
        raise ValueError(f"{where}: data has shape {found}; expected {list(shape)}, or it in a row")
    try:
        return np.frombuffer(bytes(data), np.uint8).reshape(shape)
    except (TypeError, ValueError):
        raise ValueError(f"{where}: data has other than whole numbers 0..255") from None


def _shown(value: Any) -> str:
    return repr(value)[:60]
