"""Products of 8-bit weights with one vector, by onnxruntime's MatMulNBits: a quarter of the memory to read.

A single lane of a large model waits for its weights, which NumPy multiplies fast in float32 alone: it has no BLAS of
float16 and none of integers (`python benchmarks/int8.py` measures that). Loaded only where `sampling.weights` is int8.

Letters: `N` outputs, `K` inputs.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import SettingsError

BLOCK = 128  # weights of one output that share a scale
HIGHEST = 127
ZERO_POINT = 128  # the byte that stands for 0 unless the operator is told another
INT8_ACCURACY = 4  # the operator's level at which it rounds the vector to 8 bits too, block by block


class Int8Matrix:
    """A matrix in 8 bits, each weight to the nearest of 255 multiples of its block's scale, max |w| / 127."""

    def __init__(self, matrix: NDArray[Any]) -> None:
        """matrix: (K, N), as `FastLSTM` holds its weights. Raises SettingsError without an onnxruntime that can."""
        try:
            import onnxruntime
            from onnx import TensorProto, helper, numpy_helper
        except (ImportError, OSError):
            raise SettingsError(
                "sampling.weights is int8, which needs onnx and onnxruntime, which are not installed: "
                "pip install onnx 'onnxruntime>=1.22' (the extra int8)"
            ) from None
        self.inputs, self.outputs = matrix.shape
        rounded, scales = _quantised(matrix)
        node = helper.make_node(
            "MatMulNBits",
            ["vector", "rounded", "scales"],
            ["product"],
            domain="com.microsoft",
            K=self.inputs,
            N=self.outputs,
            bits=8,
            block_size=BLOCK,
            accuracy_level=INT8_ACCURACY,
        )
        graph = helper.make_graph(
            [node],
            "int8",
            [helper.make_tensor_value_info("vector", TensorProto.FLOAT, [1, self.inputs])],
            [helper.make_tensor_value_info("product", TensorProto.FLOAT, [1, self.outputs])],
            [numpy_helper.from_array(rounded, "rounded"), numpy_helper.from_array(scales, "scales")],
        )
        domains = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=domains, ir_version=8)
        serialized, providers = model.SerializeToString(), ["CPUExecutionProvider"]
        try:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1  # its threads spin while they wait for the next product
            options.log_severity_level = 4  # what fails is told below
            self.session = onnxruntime.InferenceSession(serialized, options, providers=providers)
            self.session.run(None, {"vector": np.zeros((1, self.inputs), dtype=np.float32)})
        except Exception:  # they have no base of their own
            raise SettingsError(
                "sampling.weights is int8, which this onnxruntime cannot multiply on this machine: install 1.22 or "
                "later, or set it to float32"
            ) from None

    def bind(self, vector: NDArray[Any], product: NDArray[Any]) -> Callable[[], None]:
        """The function that writes vector (K,) times the matrix into product (N,), float32 each.

        It holds their addresses alone, so that both must live as long as it does.
        """
        binding = self.session.io_binding()
        binding.bind_input("vector", "cpu", 0, np.float32, [1, self.inputs], vector.ctypes.data)
        binding.bind_output("product", "cpu", 0, np.float32, [1, self.outputs], product.ctypes.data)
        return partial(self.session.run_with_iobinding, binding)


def _quantised(matrix: NDArray[Any]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Bytes (N, blocks, BLOCK), the last block filled up with zeros, and the scale of each block (N, blocks)."""
    inputs, outputs = matrix.shape
    blocks = np.zeros((outputs, -(-inputs // BLOCK) * BLOCK), dtype=np.float32)
    blocks[:, :inputs] = matrix.T
    blocks = blocks.reshape(outputs, -1, BLOCK)
    scales = np.abs(blocks).max(axis=2) / np.float32(HIGHEST)
    scales[scales == 0] = 1
    return (np.rint(blocks / scales[..., None]) + ZERO_POINT).astype(np.uint8), scales
