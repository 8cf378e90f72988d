"""What happens inside a network: where it looks (Grad-CAM), and what it makes of an image.

Both listen to one layer while the whole network works, so they fit every model: flat ones, ones
with a model inside, and means over views.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from fashion_cnn.data.dataset import channels_last
from fashion_cnn.keras_setup import keras
from fashion_cnn.models.forward import inference_batch_size

BATCH = 100  # small images at a time
LARGE = 64 * 64 * 3  # numbers in an image
SMALLEST_MAP = 5  # coarser ones say little about where


def gradcam(model: Any, images: np.ndarray, classes: np.ndarray | None = None) -> np.ndarray:
    """Where in an image the evidence for a class is (Grad-CAM, arXiv:1610.02391).

    The slopes are not averaged over the places (HiResCAM, arXiv:2011.08891): for a network that
    ends in a mean over places this is Grad-CAM; in one that flattens, where each place has weights
    of its own, Grad-CAM's mean was found to be below zero for most images, and its map empty.

    Explained is how far the class's logit is above the mean of all, for softmax sees nothing else:
    a network may keep what it knows of a class in the other classes' logits.

    Reads the last map with at least 5x5 places that has been through an activation.

    Args:
        model: a `keras.Model` that takes raw pixels and ends in softmax.
        images: uint8 (n, height, width[, channels]).
        classes: integers (n,), the class to explain for each image; the predicted ones without.

    Returns:
        float32 (n, height, width), 0..1; 1 is the place that says most for the class.

    Raises:
        ValueError: the network has no convolutional map, or the backend is not TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(f"Grad-CAM: needs KERAS_BACKEND=tensorflow, not {keras.backend.backend()}")
    images = channels_last(images)
    layer = _map_layer(model)
    batch = _batch(images)
    parts = range(0, len(images), batch)
    heat = [_gradcam(model, layer, images[i : i + batch], classes, i) for i in parts]
    return np.concatenate(heat)


def _gradcam(
    model: Any, layer: Any, images: np.ndarray, classes: np.ndarray | None, start: int
) -> np.ndarray:
    import tensorflow as tf

    heard: list[Any] = []
    # only what comes after the map has slopes to be kept
    with tf.GradientTape(watch_accessed_variables=False) as tape, _scores(model):

        def hear(inputs: Any, outputs: Any) -> None:
            tape.watch(outputs)
            heard.append(outputs)

        with _listening(layer, hear):
            scores = model(images, training=False)
        scores -= tf.reduce_mean(scores, 1, keepdims=True)
        chosen = tf.argmax(scores, 1) if classes is None else classes[start : start + len(images)]
        of_class = tf.gather(scores, tf.cast(chosen, tf.int32), axis=1, batch_dims=1)
    seen = heard[0]  # of a mean over views: the image as it is
    slope = tape.gradient(of_class, seen)
    heat = tf.nn.relu(tf.reduce_sum(slope * seen, -1, keepdims=True))
    heat = tf.image.resize(heat, images.shape[1:3], "bicubic")[..., 0]
    most = tf.reduce_max(heat, (1, 2), keepdims=True)
    return tf.clip_by_value(tf.math.divide_no_nan(heat, most), 0, 1).numpy()


def embeddings(model: Any, images: np.ndarray) -> np.ndarray:
    """What the last layer sees of each image: float32 (n, units)."""
    layer = [layer for layer in _layers(model) if layer.weights][-1]
    heard: list[Any] = []

    def hear(inputs: Any, outputs: Any) -> None:
        heard.append(keras.ops.convert_to_numpy(inputs))

    images, found = channels_last(images), []
    with _listening(layer, hear):
        batch = _batch(images)
        for start in range(0, len(images), batch):
            heard.clear()
            model(images[start : start + batch], training=False)
            found.append(heard[0].reshape(len(heard[0]), -1))
    return np.concatenate(found).astype(np.float32)


def embedding_map(vectors: np.ndarray) -> np.ndarray:
    """Vectors laid out so that neighbours stay neighbours (t-SNE, JMLR 9, 2008): float32 (n, 2)."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    if len(vectors) < 4 or vectors.std(0).max() < 1e-6:  # a dead network: all in one place
        return np.zeros((len(vectors), 2), np.float32)
    if vectors.shape[1] > 50:
        vectors = PCA(min(50, len(vectors)), random_state=0).fit_transform(vectors)
    start = "pca" if vectors.shape[1] > 1 else "random"
    crowd = min(30, (len(vectors) - 1) / 3)
    # 500 rounds: the same picture as 1,000 in half of the time
    layout = TSNE(init=start, perplexity=crowd, max_iter=500, random_state=0)
    # where something else uses the cores, threads wait for each other: four times as long with two
    with threadpool_limits(1):
        return layout.fit_transform(vectors)


def _batch(images: np.ndarray) -> int:
    """How many at a time: step by step, Keras keeps what every layer gave until the last has."""
    return (
        min(BATCH, max(1, inference_batch_size(images.shape[1:]) // 4))
        if images[0].size > LARGE
        else BATCH
    )


def _layers(model: Any) -> Iterator[Any]:
    """All layers in order, those of a model inside in its place."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _layers(layer)
        else:
            yield layer


def _map_layer(model: Any) -> Any:
    kinds = keras.layers.ReLU, keras.layers.Activation
    maps = [
        layer
        for layer in _layers(model)
        if len(shape := getattr(layer.output, "shape", ())) == 4
        and min(shape[1:3]) > 1
        and (isinstance(layer, kinds) or _activates(layer))
    ]
    if not maps:
        raise ValueError(f"Grad-CAM: {model.name} has no map of places that is activated")
    large = [layer for layer in maps if min(layer.output.shape[1:3]) >= SMALLEST_MAP]
    return (large or maps)[-1]


def _activates(layer: Any) -> bool:
    return getattr(layer, "activation", keras.activations.linear) is not keras.activations.linear


@contextmanager
def _listening(layer: Any, hear: Callable[[Any, Any], None]) -> Iterator[None]:
    """Call `hear(inputs, outputs)` whenever the layer works, eagerly."""
    call = layer.call

    def heard(inputs: Any, *words: Any, **options: Any) -> Any:
        outputs = call(inputs, *words, **options)
        hear(inputs, outputs)
        return outputs

    layer.call = heard
    try:
        yield
    finally:
        layer.call = call


@contextmanager
def _scores(model: Any) -> Iterator[None]:
    """Let the model answer with what goes into its softmax, which has a slope at 1, too."""
    softmax = keras.activations.softmax
    ends = [
        layer
        for layer in _layers(model)
        if isinstance(layer, keras.layers.Softmax) or getattr(layer, "activation", None) is softmax
    ][-1:]  # an earlier one is part of the network's thinking
    calls = [layer.call for layer in ends]
    for layer in ends:
        if isinstance(layer, keras.layers.Softmax):
            layer.call = lambda inputs, mask=None: inputs
        else:
            layer.activation = keras.activations.linear
    try:
        yield
    finally:
        for layer, call in zip(ends, calls, strict=True):
            if isinstance(layer, keras.layers.Softmax):
                layer.call = call
            else:
                layer.activation = softmax
