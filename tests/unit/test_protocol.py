import json

import numpy as np
import pytest

from fashion_cnn.serving.protocol import HEADER_LENGTH, Tensors, read_request, write_response

TENSORS = Tensors((2, 3, 1), 4)
IMAGES = np.arange(12, dtype=np.uint8).reshape(2, 2, 3, 1)


def tensor(**changed):
    given = {"name": "pixels", "datatype": "UINT8", "shape": [2, 2, 3, 1]} | changed
    return {key: value for key, value in given.items() if value is not None}


def read(request, raw=None):
    head = request if isinstance(request, bytes) else json.dumps(request).encode()
    return read_request(head + (raw or b""), None if raw is None else len(head), TENSORS)


@pytest.mark.parametrize("data", [IMAGES.tolist(), IMAGES.ravel().tolist()])
def test_json_nested_or_in_one_row(data):
    asked = read({"inputs": [tensor(data=data)]})
    np.testing.assert_array_equal(asked.images, IMAGES)
    assert (asked.id, asked.binary, asked.images.dtype) == (None, False, np.uint8)


def test_raw_bytes_after_the_json():
    given = tensor(parameters={"binary_data_size": 12})
    asked = read({"id": "7", "inputs": [given]}, IMAGES.tobytes())
    np.testing.assert_array_equal(asked.images, IMAGES)
    assert asked.id == "7"


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
def test_how_the_answer_is_wanted(more, binary):
    data = IMAGES.ravel().tolist()
    assert read({"inputs": [tensor(data=data)], **more}).binary is binary


GOOD = IMAGES.ravel().tolist()


@pytest.mark.parametrize(
    ("request_", "raw", "error"),
    [
        (b"", None, "not JSON"),
        (b"{", None, "not JSON"),
        (b"\xff\xfe", None, "not JSON"),
        (b"[" * 100_000, None, "not JSON"),
        (b'{"inputs": NaN}', None, "NaN is no JSON"),
        (b"[]", None, "got a JSON list; expected an object"),
        ({}, None, "inputs: got None; expected a list"),
        ({"inputs": []}, None, "inputs: got none; expected just 'pixels'"),
        ({"inputs": [3]}, None, "expected a list of one object"),
        ({"inputs": [tensor(data=GOOD)] * 2}, None, "got 'pixels', 'pixels'; expected just"),
        ({"inputs": [tensor(name="x", data=GOOD)]}, None, "got 'x'; expected just 'pixels'"),
        ({"id": 7, "inputs": [tensor(data=GOOD)]}, None, "id is 7; expected str"),
        ({"inputs": [tensor(data=GOOD)], "parameters": 1}, None, "parameters is 1; expected dict"),
        ({"inputs": [tensor(data=GOOD)], "outputs": [{"name": "y"}]}, None, "outputs: got 'y'"),
        ({"inputs": [tensor(data=GOOD)], "outputs": 1}, None, "outputs is 1; expected list"),
        (
            {
                "inputs": [tensor(data=GOOD)],
                "outputs": [{"name": "probabilities", "parameters": {"classification": 3}}],
            },
            None,
            "classification is not supported",
        ),
        ({"inputs": [tensor(data=GOOD, datatype="FP32")]}, None, "'FP32'; expected 'UINT8'"),
        ({"inputs": [tensor(data=GOOD, datatype=None)]}, None, "None; expected 'UINT8'"),
        ({"inputs": [tensor(data=GOOD, shape=[2, 3, 1])]}, None, "expected [n, 2, 3, 1]"),
        ({"inputs": [tensor(data=[], shape=[0, 2, 3, 1])]}, None, "n from 1 to 10,000"),
        ({"inputs": [tensor(data=GOOD, shape=[-2, 2, 3, 1])]}, None, "n from 1 to 10,000"),
        ({"inputs": [tensor(data=GOOD, shape=[10**9, 2, 3, 1])]}, None, "n from 1 to 10,000"),
        ({"inputs": [tensor(data=GOOD, shape=[2.0, 2, 3, 1])]}, None, "shape [2.0, 2, 3, 1]"),
        ({"inputs": [tensor(data=GOOD, shape=[True, 2, 3, 1])]}, None, "shape [True"),
        ({"inputs": [tensor(data=GOOD, shape=[])]}, None, "shape []"),
        ({"inputs": [tensor(data=GOOD, shape=2)]}, None, "shape 2"),
        ({"inputs": [tensor()]}, None, "data is None; expected a list"),
        ({"inputs": [tensor(data="abc")]}, None, "data is 'abc'"),
        ({"inputs": [tensor(data=GOOD[1:])]}, None, "data has shape [11]; expected [2, 2, 3, 1]"),
        ({"inputs": [tensor(data=[[1], [2, 3]])]}, None, "expected lists of one length"),
        ({"inputs": [tensor(data=[[1], 2])]}, None, "expected lists of one length"),
        ({"inputs": [tensor(data=[*GOOD[1:], 256])]}, None, "whole numbers 0..255"),
        ({"inputs": [tensor(data=[*GOOD[1:], -1])]}, None, "whole numbers 0..255"),
        ({"inputs": [tensor(data=[*GOOD[1:], 0.5])]}, None, "whole numbers 0..255"),
        ({"inputs": [tensor(data=[*GOOD[1:], 10**400])]}, None, "whole numbers 0..255"),
        ({"inputs": [tensor(data=[*GOOD[1:], "x" * 10**6])]}, None, "whole numbers 0..255"),
        ({"inputs": [tensor(data=[*GOOD[1:], [1]])]}, None, "whole numbers 0..255"),
        ({"inputs": [tensor(parameters={"binary_data_size": 12})]}, None, "and 0 bytes after"),
        ({"inputs": [tensor(parameters={"binary_data_size": 12})]}, b"x" * 11, "expected 12"),
        ({"inputs": [tensor(parameters={"binary_data_size": 12})]}, b"x" * 13, "expected 12"),
        ({"inputs": [tensor(parameters={"binary_data_size": "12"})]}, b"x" * 12, "size '12'"),
        ({"inputs": [tensor(parameters={"binary_data_size": -1})]}, b"x" * 12, "size -1"),
        ({"inputs": [tensor(data=GOOD)]}, b"x", "but 1 bytes after the JSON"),
        (
            {"inputs": [tensor(data=GOOD, parameters={"binary_data_size": 12})]},
            b"x" * 12,
            "as JSON and as raw bytes",
        ),
    ],
)
def test_what_is_refused(request_, raw, error):
    with pytest.raises(ValueError) as caught:
        read(request_, raw)
    assert error in str(caught.value)
    assert len(str(caught.value)) < 300  # whatever was sent


@pytest.mark.parametrize("length", [0, 999])
def test_a_wrong_length_of_the_json(length):
    with pytest.raises(ValueError, match=f"{HEADER_LENGTH}: got {length}; the body has 2 bytes"):
        read_request(b"{}", length, TENSORS)


@pytest.mark.parametrize("binary", [False, True])
def test_answers(binary):
    rows = np.array([[0.1, 0.2, 0.3, 0.4], [1, 0, 0, 0]], np.float32)
    asked = read({"id": "a", "inputs": [tensor(data=GOOD)]})
    asked = type(asked)(asked.id, asked.images, binary)
    body, headers = write_response(asked, rows, "m", "v")
    head = int(headers.get(HEADER_LENGTH, len(body)))
    answer = json.loads(body[:head])
    (output,) = answer["outputs"]
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("a", "m", "v")
    assert (output["name"], output["datatype"]) == ("probabilities", "FP32")
    if binary:
        assert output["parameters"] == {"binary_data_size": 32}
        assert headers["content-type"] == "application/octet-stream"
        found = np.frombuffer(body[head:], "<f4")
    else:
        assert headers == {"content-type": "application/json"}
        found = np.array(output["data"], np.float32)
    np.testing.assert_array_equal(found.reshape(output["shape"]), rows)
