"""Inference with a Keras model on any number of images: uint8 pixels in, probabilities out."""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fashion_cnn.keras_setup import keras
from fashion_cnn.parallel.collectives import is_distributed, local_shard, to_global_array

BATCH = 200  # images of up to 64x64 in one batch; see docs/experiments.md
_MAX_PIXELS = 64 * 64


def inference_batch_size(image_shape: tuple[int, ...]) -> int:
    """Images per batch for an image shape; fewer if the images are large."""
    pixels = math.prod(image_shape[:2]) if len(image_shape) == 3 else 1
    return BATCH if pixels <= _MAX_PIXELS else max(8, BATCH * _MAX_PIXELS // pixels)


@functools.lru_cache(maxsize=2)  # compile once per model
def compile_forward(model: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Compile a model's forward pass: images uint8, or features -> float32 (n, classes).

    On TensorFlow several batches run in parallel, each operation on its share of the cores (see
    `keras_setup.py`).
    """
    input_tensor = model.inputs[0]
    shapes = [tuple(getattr(layer.output, "shape", ())[1:]) for layer in model.layers]
    # the model may enlarge its images, so the largest feature map counts
    largest = max((shape[:2] for shape in shapes if len(shape) == 3), key=math.prod, default=())
    batch = inference_batch_size((*largest, 1) if largest else ())
    if is_distributed():
        return _distributed_forward(model, batch)
    if keras.backend.backend() != "tensorflow":
        return lambda images: model.predict(images, batch_size=batch, verbose=0)
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec(input_tensor.shape, input_tensor.dtype)])
    def forward(images: Any) -> Any:
        count = -(-tf.shape(images)[0] // batch)
        outputs = tf.TensorArray(
            tf.float32, count, element_shape=model.output_shape, infer_shape=False
        )

        def step(i: Any, outputs: Any) -> tuple[Any, Any]:
            output = model(images[i * batch : (i + 1) * batch], training=False)
            return i + 1, outputs.write(i, output)

        _, outputs = tf.while_loop(
            lambda i, _: i < count, step, (0, outputs), parallel_iterations=4
        )
        return outputs.concat()

    return lambda images: forward(images).numpy()


def _distributed_forward(model: Any, batch: int) -> Callable[[np.ndarray], np.ndarray]:
    """Every process has all images; the processes share each batch, and each gets all outputs."""
    import jax

    mesh = model.variables[0].value.sharding.mesh
    replicated = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

    def call(trainable: Any, non_trainable: Any, images: Any) -> Any:
        return model.stateless_call(trainable, non_trainable, images, training=False)[0]

    compiled = jax.jit(call, out_shardings=replicated)

    def forward(images: np.ndarray) -> np.ndarray:
        trainable = [v.value for v in model.trainable_variables]
        non_trainable = [v.value for v in model.non_trainable_variables]
        batches = [images[i : i + batch] for i in range(0, len(images), batch)]
        inputs = [to_global_array(local_shard(rows, len(rows)), len(rows)) for rows in batches]
        return np.concatenate([np.asarray(compiled(trainable, non_trainable, x)) for x in inputs])

    return forward
