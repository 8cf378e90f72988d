"""The bytes of an ONNX file in; an error out if the file could make a runtime read other files.

A tensor of an ONNX file may name another file, or an address in memory, as the place of its data.
Only canonical Protocol Buffers of known fields are accepted, so that no parser can read a file
differently from this one. Why: docs/decisions/0012-external-data-in-onnx-files.md.
"""

MAX_DEPTH = 20  # of nested messages
_TENSOR, _SPARSE, _GRAPH = "TensorProto", "SparseTensorProto", "GraphProto"
_FIELDS = {  # https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
    "ModelProto": {*range(1, 9), 14, 20, 25, 26},
    "TrainingInfoProto": {*range(1, 5)},
    "FunctionProto": {1, *range(4, 15)},
    _GRAPH: {1, 2, 5, *range(10, 17)},
    _SPARSE: {1, 2, 3},
    "NodeProto": {*range(1, 11)},
    "AttributeProto": {*range(1, 12), 13, 14, 15, *range(20, 24)},
    _TENSOR: {*range(1, 15), 16},
}
_SUBMESSAGES: dict[str, dict[int, str]] = {  # those that can contain a tensor
    "ModelProto": {7: _GRAPH, 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: _GRAPH, 2: _GRAPH},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    _GRAPH: {1: "NodeProto", 5: _TENSOR, 15: _SPARSE},
    _SPARSE: {1: _TENSOR, 2: _TENSOR},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE},
    _TENSOR: {},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # fields of TensorProto
_VARINT, _LENGTH_DELIMITED = 0, 2  # wire types
_FIXED_LENGTHS = {1: 8, 5: 4}  # wire type -> bytes


def reject_external_data(content: bytes, name: str) -> None:
    """Raise ValueError unless an ONNX file is canonical and holds all its weights itself."""
    try:
        _check_message(memoryview(content), "ModelProto", 0)
    except IndexError:
        raise ValueError(f"{name}: not a valid model (truncated)") from None
    except ValueError as error:
        raise ValueError(f"{name}: not a valid model ({error})") from None


def _check_message(content: memoryview, message: str, depth: int) -> None:
    """Check one serialized message and those in it that can contain a tensor."""
    if depth > MAX_DEPTH:
        raise ValueError(f"more than {MAX_DEPTH} nested messages")
    submessages, position = _SUBMESSAGES[message], 0
    while position < len(content):
        tag, position = _read_varint(content, position)
        field, wire_type = tag >> 3, tag & 7
        if field not in _FIELDS[message]:
            raise ValueError(f"unknown field {field} of {message}")
        value = length = _FIXED_LENGTHS.get(wire_type, 0)
        if wire_type == _LENGTH_DELIMITED:
            value, position = _read_varint(content, position)
            length = value
        elif field in submessages or not (length or wire_type == _VARINT):
            raise ValueError(f"field {field} of {message} has wire type {wire_type}")
        elif wire_type == _VARINT:
            value, position = _read_varint(content, position)
        is_external = field == _EXTERNAL_DATA or (field == _DATA_LOCATION and value)
        if message == _TENSOR and is_external:
            raise ValueError("it has weights in other files")
        end = position + length
        if end > len(content):
            raise IndexError
        if field in submessages:
            _check_message(content[position:end], submessages[field], depth + 1)
        position = end


def _read_varint(content: memoryview, position: int) -> tuple[int, int]:
    """A number in base 128, lowest digit first, and the position behind it."""
    value = shift = 0
    while True:
        byte = content[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            break
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
    if byte == 0 and shift > 7:
        raise ValueError("a number with surplus bytes")
    return value, position
