"""Read the weights in an ONNX file with int8 linear layers, without the package `onnx`.

An ONNX file is a protobuf message: fields of a number, a wire type and a value, some of which are
messages themselves. The field numbers below are those of onnx.proto3.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Message = dict[int, list[Any]]  # the values of each field, in order

_VARINT, _BYTES = 0, 2  # wire types; the others have a fixed size
_FIXED_SIZES = {1: 8, 5: 4}
_GRAPH = 7  # of a model
_NODE, _INITIALIZER = 1, 5  # of a graph
_INPUT, _NODE_NAME, _OPERATOR = 1, 3, 4  # of a node
_DIMS, _TYPE, _FLOATS, _INTEGERS, _TENSOR_NAME, _RAW = 1, 2, 4, 5, 8, 9  # of a tensor
_DTYPES: dict[int, np.dtype[Any]] = {1: np.dtype("<f4"), 3: np.dtype("i1")}


def read_weights(content: bytes) -> "dict[str, NDArray[np.float32]]":
    """Read the float32 tensors of a model and its dequantised int8 matrices.

    Returns:
        The stored float32 tensors by their own names, and for each `MatMulInteger` node, by the
        node's name, the matrix (W - zero) * scale of shape (inputs, outputs).

    Raises:
        ZiaError: the content is not such a model.
    """
    try:
        [graph] = _fields(content)[_GRAPH]
        parts = _fields(graph)
        stored = dict(_tensor(_fields(part)) for part in parts[_INITIALIZER])
        found = {name: value for name, value in stored.items() if value.dtype == np.float32}
        for node in map(_fields, parts[_NODE]):
            if node[_OPERATOR] == [b"MatMulInteger"]:
                found[node[_NODE_NAME][0].decode()] = _dequantised(node, stored)
    except (LookupError, ValueError) as error:
        raise ZiaError(
            f"this is not an ONNX model with int8 linear layers ({error!r:.120})"
        ) from error
    return found


def _dequantised(node: Message, stored: "dict[str, NDArray[Any]]") -> "NDArray[np.float32]":
    """The matrix that a node multiplies by; each output has a scale and a zero."""
    _, matrix, _, zero = (name.decode() for name in node[_INPUT])
    scale = stored[matrix.removesuffix("_quantized") + "_scale"]
    shifted = stored[matrix].astype(np.float32) - stored[zero].astype(np.float32)
    weight: NDArray[np.float32] = shifted * scale
    return weight


def _tensor(fields: Message) -> "tuple[str, NDArray[Any]]":
    """A stored tensor's name and values: raw bytes, packed floats, or packed varints."""
    name, dtype = fields[_TENSOR_NAME][0].decode(), _DTYPES[fields[_TYPE][0]]
    if _INTEGERS in fields:
        values = np.array(_varints(b"".join(fields[_INTEGERS])), np.uint64).astype(dtype)
    else:
        [raw] = fields.get(_RAW) or fields[_FLOATS]
        values = np.frombuffer(raw, dtype)
    return name, values.reshape(fields.get(_DIMS, []))


def _fields(content: bytes) -> Message:
    """Split a message into its fields; nested messages stay bytes."""
    found: Message = {}
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        value: int | bytes
        if key & 7 == _VARINT:
            value, at = _varint(content, at)
        else:
            size, at = _varint(content, at) if key & 7 == _BYTES else (_FIXED_SIZES[key & 7], at)
            value, at = content[at : at + size], at + size
            if at > len(content):
                raise ValueError("a field is cut off")
        found.setdefault(key >> 3, []).append(value)
    return found


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """The integer at `at`, groups of seven bits from the lowest, and the position after it."""
    value = shift = 0
    while True:
        byte = content[at]
        value |= (byte & 127) << shift
        shift, at = shift + 7, at + 1
        if byte < 128:
            return value, at


def _varints(content: bytes) -> list[int]:
    found, at = [], 0
    while at < len(content):
        value, at = _varint(content, at)
        found.append(value)
    return found
