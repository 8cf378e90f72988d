"""The bytes of an ONNX file in; a function that computes its outputs with OpenVINO out.

Why it is used in just this way: docs/decisions/0020-openvino.md.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from threading import Condition, Lock
from typing import Any

import numpy as np

from fashion_cnn.machine import cores, version

# batches of uint8 images -> the outputs of the network for each
Run = Callable[[Sequence[np.ndarray]], list[list[np.ndarray]]]
# OpenVINO changes the locale of the process while it compiles. Two threads at a time might leave
# it changed, and Python would read text files as ASCII.
_compiling = Lock()
_TYPES = {"float32": "f32", "bfloat16": "bf16"}


def start_openvino(
    content: bytes, threads: int, precision: str, batch: int, side_by_side: bool = False
) -> Run:
    """Compile a network for the processor.

    Args:
        content: the bytes of an `.onnx` file that `onnx_check` has accepted.
        threads: that compute one batch; 0 for all cores. Several callers are served at a time, as
            far as the cores allow.
        precision: `float32` or `bfloat16`.
        batch: how many images most batches have. These are computed by a network that is compiled
            for just that many, which is faster.
        side_by_side: whether the batches of one caller are computed at the same time, too.

    Raises:
        Exception: of any type, by OpenVINO, if it cannot be imported or compile the network.
    """
    core = import_openvino().Core()
    threads = threads or cores()
    settings = {
        "INFERENCE_PRECISION_HINT": _TYPES[precision],
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # else several processes compute on the same core
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,  # else activations are rounded to 8 bits
    }
    network = core.read_model(content)
    of_one_size = network.clone()
    of_one_size.reshape([batch, *network.input(0).partial_shape[1:]])

    def compile_copy(model: Any) -> Any:
        with _compiling:
            return core.compile_model(model, "CPU", settings).create_infer_request()

    count = max(1, cores() // threads)
    flexible = _Copies(partial(compile_copy, network), count)
    fast = _Copies(partial(compile_copy, of_one_size), count)

    def predict(images: np.ndarray) -> list[np.ndarray]:
        with (fast if len(images) == batch else flexible).borrow() as request:
            return list(request.infer([np.ascontiguousarray(images)], share_inputs=True).values())

    def run(batches: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
        if not side_by_side or min(count, len(batches)) < 2:
            return list(map(predict, batches))
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(predict, batches))

    return run


def describe(precision: str) -> str:
    """The runtime and its version, for people."""
    return f"OpenVINO {version('openvino')}, {precision}"


def import_openvino() -> Any:
    """Import OpenVINO without its telemetry, which writes to the home folder and sends."""
    telemetry = "openvino_telemetry"
    if "openvino" not in sys.modules and telemetry not in sys.modules:
        sys.modules[telemetry] = None  # type: ignore[assignment]  # OpenVINO then has a stub
        try:
            import openvino
        finally:
            del sys.modules[telemetry]
        return openvino
    import openvino

    return openvino


class _Copies:
    """Compiled copies of a network, made when needed; each is used by one thread at a time."""

    def __init__(self, compile_copy: Callable[[], Any], limit: int) -> None:
        self._compile_copy, self._limit = compile_copy, limit
        self._idle: list[Any] = []
        self._count = 0
        self._changed = Condition()

    @contextmanager
    def borrow(self) -> Iterator[Any]:
        """An idle copy, or a new one; waits if there are as many as allowed."""
        with self._changed:
            self._changed.wait_for(lambda: self._idle or self._count < self._limit)
            copy = self._idle.pop() if self._idle else None
            self._count += copy is None
        try:
            copy = copy or self._compile_copy()
            yield copy
        finally:
            with self._changed:
                if copy is None:  # it could not be compiled
                    self._count -= 1
                else:
                    self._idle.append(copy)
                self._changed.notify()
