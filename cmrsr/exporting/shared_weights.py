"""Graphs that find their weights in the bundle's safetensors files instead of holding a copy of each.

ONNX calls this external data: an initialiser names a file, an offset and a length. The tensors of a safetensors file
lie there as they are, so a graph can point into it.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import onnx
from onnx import TensorProto, external_data_helper, numpy_helper
from safetensors.numpy import save

CONSTANTS = "constants.safetensors"  # what several graphs hold that is not in the weights as it is: turned matrices
SHARED_TYPES = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BOOL)
LEAST_BYTES = 2048  # smaller tensors stay in the graph
Places = Mapping[bytes, tuple[str, int, int]]  # sha256 of the bytes of a tensor -> file, offset and length in it


def places(*weights: Path) -> Places:
    """Where the tensors of safetensors files lie in them."""
    found = {}
    for path in weights:
        data = path.read_bytes()
        start = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:start])
        for name, tensor in header.items():
            if name != "__metadata__":
                low, high = (start + offset for offset in tensor["data_offsets"])
                found[hashlib.sha256(data[low:high]).digest()] = (path.name, low, high - low)
    return found


def point_into(model: onnx.ModelProto, where: Places) -> None:
    """Let the initialisers whose bytes lie in the files point there; the files have to stay beside the graph."""
    for tensor in model.graph.initializer:
        data = _shareable(tensor)
        place = where.get(hashlib.sha256(data).digest()) if data else None
        if place is None:
            continue
        tensor.raw_data = data  # what the helper replaces
        for field in ("float_data", "int32_data"):
            tensor.ClearField(field)
        external_data_helper.set_external_data(tensor, place[0], offset=place[1], length=place[2])
        tensor.ClearField("raw_data")


def gather(folder: Path) -> None:
    """Move what the graphs of a folder hold more than once into one file beside them."""
    graphs = {path: onnx.load(str(path), load_external_data=False) for path in sorted(folder.glob("*.onnx"))}
    tensors = [(t, _shareable(t)) for model in graphs.values() for t in model.graph.initializer]
    counts = Counter(data for _, data in tensors if data)
    repeated = {data: numpy_helper.to_array(t) for t, data in tensors if data and counts[data] > 1}
    if not repeated:
        return
    names = {hashlib.sha256(data).hexdigest()[:16]: value for data, value in repeated.items()}
    (folder / CONSTANTS).write_bytes(save(names))
    where = places(folder / CONSTANTS)
    for path, model in graphs.items():
        point_into(model, where)
        onnx.save(model, str(path))


def _shareable(tensor: TensorProto) -> bytes:
    """The bytes of an initialiser that is large enough, of a type of weights, and still inside the graph; else none."""
    if tensor.data_type not in SHARED_TYPES or tensor.data_location == TensorProto.EXTERNAL:
        return b""
    data = numpy_helper.to_array(tensor).tobytes()
    return data if len(data) >= LEAST_BYTES else b""
