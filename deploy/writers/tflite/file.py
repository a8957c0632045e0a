"""The flatbuffer of a `.tflite` file: tensors, buffers, operators. It knows no graph of ours.

The schema is TensorFlow Lite's, version 3, as `ai_edge_litert` brings it.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from deploy.graphs.graph import Grid

LIMIT = 2**31 - 2**20
"""Bytes of constants from which the file would not fit a flatbuffer (2 GB)."""

TYPES: Mapping[str, int] = {
    "float32": schema.TensorType.FLOAT32,
    "int8": schema.TensorType.INT8,
    "uint8": schema.TensorType.UINT8,
    "int32": schema.TensorType.INT32,
    "int64": schema.TensorType.INT64,
    "bool": schema.TensorType.BOOL,
}


class Tensor(NamedTuple):
    """A tensor of the file: its place and what an operator needs to know of it.

    An int8 tensor without a grid is a kernel with a scale for each output channel.
    """

    place: int
    shape: tuple[int, ...]
    dtype: str
    grid: Grid | None = None


class _Aligned(schema.BufferT):
    """A buffer whose bytes start at a multiple of 16, which the schema demands."""

    def Pack(self, builder: Any) -> Any:
        start = None
        if self.data is not None:
            size = len(self.data)
            builder.StartVector(1, size, 16)
            builder.head -= size
            builder.Bytes[builder.head : builder.head + size] = self.data
            start = builder.EndVector()
        schema.BufferStart(builder)
        if start is not None:
            schema.BufferAddData(builder, start)
        return schema.BufferEnd(builder)


class File:
    """A file that grows by tensors and operators in the order in which they run."""

    def __init__(self) -> None:
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators, self.graph.name = [], [], b"main"
        self.buffers: list[_Aligned] = [_Aligned()]
        self.codes: dict[tuple[int, int], int] = {}
        self.names: set[str] = set()
        self.shared: dict[tuple[bytes, tuple[int, ...], str, Any], Tensor] = {}

    def tensor(
        self, name: str, shape: Sequence[int], dtype: str, grid: Grid | None = None
    ) -> Tensor:
        """Adds a tensor that an operator, or the user, fills; its name gets a number if taken."""
        if dtype not in TYPES:
            raise ValueError(f"litert has no tensors of {dtype} ({name!r})")
        made = schema.TensorT()
        made.name = self._free(name).encode()
        made.shape, made.type, made.buffer = np.asarray(shape, np.int32), TYPES[dtype], 0
        if grid is not None:
            made.quantization = _quantization([grid.scale], [grid.zero], 0)
        self.graph.tensors.append(made)
        return Tensor(len(self.graph.tensors) - 1, tuple(shape), dtype, grid)

    def constant(
        self,
        name: str,
        array: Any,
        grid: Grid | None = None,
        scales: np.ndarray | None = None,
        axis: int = 0,
    ) -> Tensor:
        """Adds a tensor of these entries; an equal one that is there already serves again.

        Args:
          name: of the tensor.
          array: its entries.
          grid: on which int8 entries lie.
          scales: instead, one for each index of an axis, with zeros at 0.
          axis: of the scales.
        """
        array = np.ascontiguousarray(array)
        data = array.tobytes()
        marks = grid if scales is None else (tuple(scales), axis)
        known = (data, array.shape, str(array.dtype), marks)
        if known not in self.shared:
            made = self.tensor(name, array.shape, str(array.dtype), grid)
            if scales is not None:
                zeros = np.zeros(len(scales), np.int64)
                self.graph.tensors[-1].quantization = _quantization(scales, zeros, axis)
            self.graph.tensors[-1].buffer = self._buffer(data)
            self.shared[known] = made
        return self.shared[known]

    def operator(
        self,
        code: str,
        inputs: Sequence[Tensor],
        output: Tensor,
        version: int,
        options: tuple[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Adds an operator.

        Args:
          code: its name in the schema.
          inputs: tensors that it reads.
          output: the one that it fills.
          version: the lowest that knows all that is asked of it.
          options: the schema's table for them, without `T`, and its fields.
        """
        made = schema.OperatorT()
        key = (getattr(schema.BuiltinOperator, code), version)
        made.opcodeIndex = self.codes.setdefault(key, len(self.codes))
        made.inputs = [tensor.place for tensor in inputs]
        made.outputs = [output.place]
        if options is not None:
            made.builtinOptionsType = getattr(schema.BuiltinOptions, options[0])
            made.builtinOptions = getattr(schema, options[0] + "T")()
            for field, value in options[1].items():
                setattr(made.builtinOptions, field, value)
        self.graph.operators.append(made)

    def packed(
        self,
        inputs: Mapping[str, Tensor],
        outputs: Mapping[str, Tensor],
        metadata: Mapping[str, Any],
    ) -> bytes:
        """Returns the bytes of the file, the same for the same calls.

        Args:
          inputs: name in the signature `serving_default` → tensor, in order.
          outputs: the same of the results.
          metadata: name → what JSON can say; each is a buffer of its own.

        Raises:
          ValueError: the constants take 2 GB or more.
        """
        size = sum(len(buffer.data) for buffer in self.buffers if buffer.data is not None)
        if size > LIMIT:
            raise ValueError(f"a .tflite file holds 2 GB; this network has {size:,} bytes")
        self.graph.inputs = [tensor.place for tensor in inputs.values()]
        self.graph.outputs = [tensor.place for tensor in outputs.values()]
        model = schema.ModelT()
        model.version, model.description = 3, b"deploy"
        model.subgraphs, model.operatorCodes = [self.graph], [_code(*key) for key in self.codes]
        model.signatureDefs = [_signature(inputs, outputs)]
        model.metadata = []
        for name, said in metadata.items():
            entry = schema.MetadataT()
            entry.name, entry.buffer = name.encode(), self._buffer(json.dumps(said).encode())
            model.metadata.append(entry)
        model.buffers = self.buffers
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _buffer(self, data: bytes) -> int:
        made = _Aligned()
        made.data = data
        self.buffers.append(made)
        return len(self.buffers) - 1

    def _free(self, name: str) -> str:
        free, count = name, 1
        while free in self.names:
            free, count = f"{name}_{count}", count + 1
        self.names.add(free)
        return free


def _quantization(scales: Any, zeros: Any, axis: int) -> Any:
    made = schema.QuantizationParametersT()
    made.scale, made.zeroPoint = np.asarray(scales, np.float32), np.asarray(zeros, np.int64)
    made.quantizedDimension = axis
    return made


def _code(code: int, version: int) -> Any:
    made = schema.OperatorCodeT()
    made.builtinCode, made.deprecatedBuiltinCode, made.version = code, min(code, 127), version
    return made


def _signature(inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> Any:
    made = schema.SignatureDefT()
    made.signatureKey, made.subgraphIndex = b"serving_default", 0
    made.inputs, made.outputs = _map(inputs), _map(outputs)
    return made


def _map(tensors: Mapping[str, Tensor]) -> list[Any]:
    entries = []
    for name, tensor in tensors.items():
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name.encode(), tensor.place
        entries.append(entry)
    return entries
