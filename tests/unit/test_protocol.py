import json

import numpy as np
import pytest
from pydantic import ValidationError

from fashion_cnn.serving.protocol import (
    HEADER_LENGTH,
    InferBody,
    parse_infer_request,
    write_response,
)

SHAPE = (2, 3, 1)
IMAGES = np.arange(12, dtype=np.uint8).reshape(2, 2, 3, 1)


def tensor(**changed):
    entries = {"name": "pixels", "datatype": "UINT8", "shape": [2, 2, 3, 1]} | changed
    return {key: value for key, value in entries.items() if value is not None}


def parse(request, raw=None):
    head = request if isinstance(request, bytes) else json.dumps(request).encode()
    return parse_infer_request(head + (raw or b""), None if raw is None else len(head), SHAPE)


@pytest.mark.parametrize("data", [IMAGES.tolist(), IMAGES.ravel().tolist()])
def test_json_data_may_be_nested_or_flat(data):
    request = parse({"inputs": [tensor(data=data)]})
    np.testing.assert_array_equal(request.images, IMAGES)
    assert (request.id, request.binary, request.images.dtype) == (None, False, np.uint8)


def test_raw_bytes_after_the_json():
    entry = tensor(parameters={"binary_data_size": 12})
    request = parse({"id": "7", "inputs": [entry]}, IMAGES.tobytes())
    np.testing.assert_array_equal(request.images, IMAGES)
    assert request.id == "7"


@pytest.mark.parametrize(
    ("more", "binary"),
    [
        ({}, False),
        ({"outputs": []}, False),
        ({"outputs": [{"name": "probabilities"}]}, False),
        ({"outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}]}, True),
        ({"parameters": {"binary_data_output": True}}, True),
        (
            {
                "parameters": {"binary_data_output": True},
                "outputs": [{"name": "probabilities", "parameters": {"binary_data": False}}],
            },
            False,
        ),
    ],
)
def test_the_requested_format_of_the_response(more, binary):
    data = IMAGES.ravel().tolist()
    assert parse({"inputs": [tensor(data=data)], **more}).binary is binary


GOOD = IMAGES.ravel().tolist()


@pytest.mark.parametrize(
    ("request_", "raw", "error"),
    [
        (b"", None, "not JSON"),
        (b"{", None, "not JSON"),
        (b"\xff\xfe", None, "not JSON"),
        (b"[" * 100_000, None, "not JSON"),
        (b'{"inputs": NaN}', None, "not JSON"),
        (b"[]", None, "request: got []; expected a valid dictionary"),
        ({}, None, "inputs: got {}; Field required"),
        ({"inputs": []}, None, "inputs: got []; List should have at least 1 item"),
        ({"inputs": [3]}, None, "inputs.0: got 3; expected a valid dictionary"),
        ({"inputs": [tensor(data=GOOD)] * 2}, None, "inputs: got [{'data'"),
        (
            {"inputs": [tensor(name="x", data=GOOD)]},
            None,
            "inputs.0.name: got 'x'; expected 'pixels'",
        ),
        ({"id": 7, "inputs": [tensor(data=GOOD)]}, None, "id: got 7; expected a valid string"),
        (
            {"inputs": [tensor(data=GOOD)], "parameters": 1},
            None,
            "parameters: got 1; expected a valid dict",
        ),
        (
            {"inputs": [tensor(data=GOOD)], "outputs": [{"name": "y"}]},
            None,
            "outputs.0.name: got 'y'",
        ),
        (
            {"inputs": [tensor(data=GOOD)], "outputs": 1},
            None,
            "outputs: got 1; expected a valid list",
        ),
        (
            {
                "inputs": [tensor(data=GOOD)],
                "outputs": [{"name": "probabilities", "parameters": {"classification": 3}}],
            },
            None,
            "classification is not supported",
        ),
        ({"inputs": [tensor(data=GOOD, datatype="FP32")]}, None, "got 'FP32'; expected 'UINT8'"),
        ({"inputs": [tensor(data=GOOD, datatype=None)]}, None, "inputs.0.datatype: got"),
        ({"inputs": [tensor(data=GOOD, shape=[2, 3, 1])]}, None, "expected [n, 2, 3, 1]"),
        ({"inputs": [tensor(data=[], shape=[0, 2, 3, 1])]}, None, "n from 1 to 10,000"),
        ({"inputs": [tensor(data=GOOD, shape=[-2, 2, 3, 1])]}, None, "n from 1 to 10,000"),
        ({"inputs": [tensor(data=GOOD, shape=[10**9, 2, 3, 1])]}, None, "n from 1 to 10,000"),
        (
            {"inputs": [tensor(data=GOOD, shape=[2.0, 2, 3, 1])]},
            None,
            "shape.0: got 2.0; expected a valid integer",
        ),
        (
            {"inputs": [tensor(data=GOOD, shape=[True, 2, 3, 1])]},
            None,
            "shape.0: got True; expected a valid integer",
        ),
        ({"inputs": [tensor(data=GOOD, shape=[])]}, None, "shape []"),
        ({"inputs": [tensor(data=GOOD, shape=2)]}, None, "shape: got 2"),
        ({"inputs": [tensor()]}, None, "got data None; expected a list"),
        ({"inputs": [tensor(data="abc")]}, None, "got data 'abc'"),
        ({"inputs": [tensor(data=GOOD[1:])]}, None, "data has shape [11]; expected [2, 2, 3, 1]"),
        ({"inputs": [tensor(data=[[1], [2, 3]])]}, None, "expected lists of one length"),
        ({"inputs": [tensor(data=[[1], 2])]}, None, "expected lists of one length"),
        ({"inputs": [tensor(data=[*GOOD[1:], 256])]}, None, "integers from 0 to 255"),
        ({"inputs": [tensor(data=[*GOOD[1:], -1])]}, None, "integers from 0 to 255"),
        ({"inputs": [tensor(data=[*GOOD[1:], 0.5])]}, None, "integers from 0 to 255"),
        ({"inputs": [tensor(data=[*GOOD[1:], 10**400])]}, None, "integers from 0 to 255"),
        ({"inputs": [tensor(data=[*GOOD[1:], "x" * 10**6])]}, None, "integers from 0 to 255"),
        ({"inputs": [tensor(data=[*GOOD[1:], [1]])]}, None, "integers from 0 to 255"),
        ({"inputs": [tensor(parameters={"binary_data_size": 12})]}, None, "and 0 bytes after"),
        ({"inputs": [tensor(parameters={"binary_data_size": 12})]}, b"x" * 11, "expected 12"),
        ({"inputs": [tensor(parameters={"binary_data_size": 12})]}, b"x" * 13, "expected 12"),
        ({"inputs": [tensor(parameters={"binary_data_size": "12"})]}, b"x" * 12, "size '12'"),
        ({"inputs": [tensor(parameters={"binary_data_size": -1})]}, b"x" * 12, "size -1"),
        ({"inputs": [tensor(data=GOOD)]}, b"x", "but 1 bytes after the JSON"),
        (
            {"inputs": [tensor(data=GOOD, parameters={"binary_data_size": 12})]},
            b"x" * 12,
            "got data as JSON and as raw bytes",
        ),
    ],
)
def test_invalid_requests_are_refused(request_, raw, error):
    with pytest.raises(ValueError) as caught:
        parse(request_, raw)
    assert error in str(caught.value)
    assert len(str(caught.value)) < 300  # whatever was sent


@pytest.mark.parametrize(
    "entry",
    [
        {"inputs": [0] * 1_000_000},
        {"inputs": [tensor(data=GOOD)] * 50_000},
        {"inputs": [tensor(data=GOOD, shape=["x"] * 1_000_000)]},
        {"inputs": [tensor(data=GOOD)], "outputs": [0] * 1_000_000},
        {"inputs": [tensor(data=GOOD)], "id": [0] * 1_000_000},
    ],
)
def test_many_wrong_items_take_little_memory(entry):
    """Validation stops at the first error; an error object per item would take gigabytes."""
    body = json.dumps(entry).encode()
    with pytest.raises(ValueError) as caught:
        parse(body)
    assert len(str(caught.value)) < 300
    content = json.loads(body)
    with pytest.raises(ValidationError) as invalid:
        InferBody.model_validate(content)
    assert invalid.value.error_count() == 1


@pytest.mark.parametrize("length", [0, 999])
def test_a_wrong_json_length_is_refused(length):
    with pytest.raises(ValueError, match=f"{HEADER_LENGTH}: got {length}; the body has 2 bytes"):
        parse_infer_request(b"{}", length, SHAPE)


@pytest.mark.parametrize("binary", [False, True])
def test_responses(binary):
    rows = np.array([[0.1, 0.2, 0.3, 0.4], [1, 0, 0, 0]], np.float32)
    request = parse({"id": "a", "inputs": [tensor(data=GOOD)]})
    request = type(request)(request.id, request.images, binary)
    body, headers = write_response(request, rows, "m", "v")
    head = int(headers.get(HEADER_LENGTH, len(body)))
    response = json.loads(body[:head])
    (output,) = response["outputs"]
    assert (response["id"], response["model_name"], response["model_version"]) == ("a", "m", "v")
    assert (output["name"], output["datatype"]) == ("probabilities", "FP32")
    if binary:
        assert output["parameters"] == {"binary_data_size": 32}
        assert headers["content-type"] == "application/octet-stream"
        values = np.frombuffer(body[head:], "<f4")
    else:
        assert headers == {"content-type": "application/json"}
        values = np.array(output["data"], np.float32)
    np.testing.assert_array_equal(values.reshape(output["shape"]), rows)
