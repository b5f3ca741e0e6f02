"""Graphs that find their weights in the bundle's ``weights.safetensors`` instead of holding a copy of each.

ONNX calls this external data: an initialiser names a file, an offset and a length. The tensors of a safetensors file
lie there as they are, so a graph can point into it.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import onnx
from onnx import TensorProto, external_data_helper, numpy_helper

LEAST_BYTES = 2048  # smaller tensors stay in the graph
Places = Mapping[bytes, tuple[int, int]]  # sha256 of the bytes of a tensor -> offset and length in the file


def places(weights: Path) -> Places:
    """Where the tensors of a safetensors file lie in it."""
    data = weights.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    found = {}
    for name, tensor in header.items():
        if name != "__metadata__":
            low, high = (start + offset for offset in tensor["data_offsets"])
            found[hashlib.sha256(data[low:high]).digest()] = (low, high - low)
    return found


def point_into(model: onnx.ModelProto, weights: Path, where: Places) -> None:
    """Let the initialisers whose bytes lie in ``weights`` point there; the file has to stay beside the graph."""
    for tensor in model.graph.initializer:
        if tensor.data_type not in (TensorProto.FLOAT, TensorProto.FLOAT16):
            continue
        data = numpy_helper.to_array(tensor).tobytes()
        place = where.get(hashlib.sha256(data).digest())
        if place is None or len(data) < LEAST_BYTES:
            continue
        tensor.raw_data = data  # what the helper replaces
        tensor.ClearField("float_data")
        external_data_helper.set_external_data(tensor, weights.name, offset=place[0], length=place[1])
        tensor.ClearField("raw_data")
