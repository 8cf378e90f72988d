"""What a network bases its predictions on: Grad-CAM heat maps and embeddings of images.

Both use a forward hook on one layer while the whole model runs, so they work for every model: flat
ones, nested ones, and averages of several outputs.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np

from fashion_cnn.data.dataset import channels_last
from fashion_cnn.keras_setup import keras
from fashion_cnn.models.forward import inference_batch_size

BATCH = 100  # small images per batch
LARGE = 64 * 64 * 3  # values in an image from which on batches are smaller
MIN_MAP_EDGE = 5  # pixels; coarser feature maps locate too little


def gradcam(model: Any, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Heat maps float32 (n, height, width), 0..1, of the evidence for `classes` in images uint8.

    Grad-CAM (arXiv:1610.02391), but gradients are not averaged over positions (HiResCAM,
    arXiv:2011.08891): in a network that flattens, every position has weights of its own, and the
    average was negative for most images, so the heat map empty. With global average pooling the two
    are equal. Uses the last activated feature map of at least 5x5 pixels. Explains the class's
    logit minus the mean of all logits, because softmax depends on nothing else: a network may
    encode evidence for a class in the logits of the others.
    """
    images = channels_last(images)
    layer, size = _feature_map_layer(model), _batch_size(images)
    heat = []
    for start in range(0, len(images), size):
        batch = slice(start, start + size)
        heat.append(_gradcam_batch(model, layer, images[batch], classes[batch]))
    return np.concatenate(heat)


def _gradcam_batch(model: Any, layer: Any, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    import tensorflow as tf

    feature_maps: list[Any] = []
    # the tape records only what follows the feature map
    with tf.GradientTape(watch_accessed_variables=False) as tape:

        def watch_output(inputs: Any, outputs: Any) -> None:
            tape.watch(outputs)
            feature_maps.append(outputs)

        with _without_softmax(model), _forward_hook(layer, watch_output):
            logits = model(images, training=False)
        logits -= tf.reduce_mean(logits, 1, keepdims=True)
        target_logits = tf.gather(logits, tf.cast(classes, tf.int32), axis=1, batch_dims=1)
    feature_map = feature_maps[0]  # of an average over flips: the one of the original image
    gradient = tape.gradient(target_logits, feature_map)
    heat = tf.nn.relu(tf.reduce_sum(gradient * feature_map, -1, keepdims=True))
    heat = tf.image.resize(heat, images.shape[1:3], "bicubic")[..., 0]
    maximum = tf.reduce_max(heat, (1, 2), keepdims=True)
    return tf.clip_by_value(tf.math.divide_no_nan(heat, maximum), 0, 1).numpy()


def embeddings(model: Any, images: np.ndarray) -> np.ndarray:
    """The inputs of the last layer with weights for each image: float32 (n, units)."""
    layer = [layer for layer in _flat_layers(model) if layer.weights][-1]
    images, size = channels_last(images), _batch_size(images)
    captured: list[Any] = []
    vectors = []
    with _forward_hook(layer, lambda inputs, outputs: captured.append(inputs)):
        for start in range(0, len(images), size):
            captured.clear()
            model(images[start : start + size], training=False)
            batch = keras.ops.convert_to_numpy(captured[0])
            vectors.append(batch.reshape(len(batch), -1))
    return np.concatenate(vectors).astype(np.float32)


def embedding_map(vectors: np.ndarray) -> np.ndarray:
    """Embeddings in two dimensions, by t-SNE (JMLR 9, 2008): float32 (n, 2)."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    if len(vectors) < 4 or vectors.std(0).max() < 1e-6:  # a dead network: all vectors are equal
        return np.zeros((len(vectors), 2), np.float32)
    if vectors.shape[1] > 50:
        vectors = PCA(min(50, len(vectors)), random_state=0).fit_transform(vectors)
    init = "pca" if vectors.shape[1] > 1 else "random"
    perplexity = min(30, (len(vectors) - 1) / 3)
    # 500 iterations give the same picture as 1,000 in half of the time
    tsne = TSNE(init=init, perplexity=perplexity, max_iter=500, random_state=0)
    # two threads that share a core with another process take four times as long as one
    with threadpool_limits(1):
        return tsne.fit_transform(vectors)


def _batch_size(images: np.ndarray) -> int:
    """Images per batch: fewer large ones, because eager execution keeps every layer's output."""
    return BATCH if images[0].size <= LARGE else inference_batch_size(images.shape[1:]) // 4


def _flat_layers(model: Any) -> Iterator[Any]:
    """All layers in order, including those of nested models."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _flat_layers(layer)
        else:
            yield layer


def _feature_map_layer(model: Any) -> Any:
    """The last layer whose output is an activated feature map, if possible not a coarse one."""
    candidates = [layer for layer in _flat_layers(model) if _is_feature_map(layer)]
    if not candidates:
        raise ValueError(f"Grad-CAM: {model.name} has no activated feature map")
    fine = [layer for layer in candidates if min(layer.output.shape[1:3]) >= MIN_MAP_EDGE]
    return (fine or candidates)[-1]


def _is_feature_map(layer: Any) -> bool:
    """Whether the layer's output is activated, and has more than one row and column."""
    shape, linear = getattr(layer.output, "shape", ()), keras.activations.linear
    if len(shape) != 4 or min(shape[1:3]) == 1:
        return False
    is_activation = isinstance(layer, keras.layers.ReLU | keras.layers.Activation)
    return is_activation or getattr(layer, "activation", linear) is not linear


def _forward_hook(layer: Any, hook: Callable[[Any, Any], Any]) -> AbstractContextManager[None]:
    """Call `hook(inputs, outputs)` after each eager call of the layer."""
    call = layer.call

    def call_with_hook(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        outputs = call(inputs, *args, **kwargs)
        hook(inputs, outputs)
        return outputs

    return _replaced(layer, "call", call_with_hook)


def _without_softmax(model: Any) -> AbstractContextManager[None]:
    """Make the model return logits, whose gradient does not vanish at a probability of 1."""
    # from the end: an earlier softmax is an inner part of the network
    for layer in reversed(list(_flat_layers(model))):
        if isinstance(layer, keras.layers.Softmax):
            return _replaced(layer, "call", lambda inputs, mask=None: inputs)
        if getattr(layer, "activation", None) is keras.activations.softmax:
            return _replaced(layer, "activation", keras.activations.linear)
    return nullcontext()


@contextmanager
def _replaced(layer: Any, attribute: str, value: Any) -> Iterator[None]:
    """Replace an attribute of a layer within a `with` block."""
    original = getattr(layer, attribute)
    setattr(layer, attribute, value)
    try:
        yield
    finally:
        setattr(layer, attribute, original)
