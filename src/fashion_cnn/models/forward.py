"""A model's answers for any number of images: uint8 pixels in, probabilities out."""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fashion_cnn.keras_setup import keras
from fashion_cnn.parallel.collectives import is_distributed, local_shard, to_global_array

BATCH = 200  # images of up to 64x64 at a time; see docs/experiments.md
_LARGE = 64 * 64


def inference_batch_size(image_shape: tuple[int, ...]) -> int:
    """How many images of a size are worked on at a time: fewer large ones."""
    pixels = math.prod(image_shape[:2]) if len(image_shape) == 3 else 1
    return BATCH if pixels <= _LARGE else max(8, BATCH * _LARGE // pixels)


@functools.lru_cache(maxsize=2)  # compiled once for a model that is asked again
def compile_forward(model: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Compile a model's forward pass.

    TensorFlow works through several batches at once, each operation on its share of the cores
    (`framework.py`); other backends take Keras's own way.

    Args:
        model: a `keras.Model` that takes raw pixels, or features.

    Returns:
        A function from uint8 (n, height, width, channels) to float32 (n, classes).
    """
    given = model.inputs[0]
    shapes = [tuple(getattr(layer.output, "shape", ())[1:]) for layer in model.layers]
    largest = max((x[:2] for x in shapes if len(x) == 3), key=math.prod, default=())
    batch = inference_batch_size((*largest, 1) if largest else ())  # it may enlarge its images
    if is_distributed():
        return _shared_forward(model, batch)
    if keras.backend.backend() != "tensorflow":
        return lambda images: model.predict(images, batch_size=batch, verbose=0)
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec(given.shape, given.dtype)])
    def forward(images: Any) -> Any:
        count = -(-tf.shape(images)[0] // batch)
        parts = tf.TensorArray(
            tf.float32, count, element_shape=model.output_shape, infer_shape=False
        )

        def step(i: Any, parts: Any) -> tuple[Any, Any]:
            part = model(images[i * batch : (i + 1) * batch], training=False)
            return i + 1, parts.write(i, part)

        _, parts = tf.while_loop(lambda i, _: i < count, step, (0, parts), parallel_iterations=4)
        return parts.concat()

    return lambda images: forward(images).numpy()


def _shared_forward(model: Any, batch: int) -> Callable[[np.ndarray], np.ndarray]:
    """Several processes, each with all of the images, share each batch and have all answers."""
    import jax

    mesh = model.variables[0].value.sharding.mesh
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

    def answers(trainable: Any, others: Any, images: Any) -> Any:
        return model.stateless_call(trainable, others, images, training=False)[0]

    compiled = jax.jit(answers, out_shardings=everywhere)

    def forward(images: np.ndarray) -> np.ndarray:
        state = [[v.value for v in model.trainable_variables]]
        state.append([v.value for v in model.non_trainable_variables])
        parts = [images[i : i + batch] for i in range(0, len(images), batch)]
        given = [to_global_array(local_shard(part, len(part)), len(part)) for part in parts]
        return np.concatenate([np.asarray(compiled(*state, x)) for x in given])

    return forward
