"""A pretrained network and images in; the features it makes of them, and its head, out."""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from fashion_cnn.console import progress_bar
from fashion_cnn.data.augment import noise_columns
from fashion_cnn.data.cache import cached_array
from fashion_cnn.data.dataset import Data, channels_last
from fashion_cnn.keras_setup import keras
from fashion_cnn.models.forward import compile_forward
from fashion_cnn.training.batches import InputTransform

LAYER = "features"
BLOCK = 64  # images between two movements of the bar


def has_frozen_layers(network: Any) -> bool:
    """Whether something of a network was learnt elsewhere and stays as it is."""
    return any(layer.weights and not layer.trainable for layer in network.layers)


def backbone_sha256(network: Any) -> str:
    """SHA-256 of all layers up to the layer `features`: kinds, sizes and weights."""
    digest = hashlib.sha256()
    for layer in _body(network).layers:
        digest.update(f"{type(layer).__name__} {layer.output.shape}".encode())
        for weight in layer.get_weights():
            digest.update(weight.tobytes())
    return digest.hexdigest()


def head_model(network: Any) -> Any:
    """What comes after the layer `features`, as a network of its own with the same layers."""
    at = [layer.name for layer in network.layers].index(LAYER)
    x = given = keras.Input(network.layers[at].output.shape[1:], name=LAYER)
    for layer in network.layers[at + 1 :]:
        x = layer(x)
    return keras.Model(given, x, name="head")


def extract_features(network: Any, data: Data, split: str, flipped: bool = False) -> np.ndarray:
    """What reaches the head of a network, from the cache if it has been there.

    Args:
        network: with a layer `features`.
        data: its images.
        split: `train` (held-out images counted) or `test`.
        flipped: of the mirror images.

    Returns:
        float32 (n, features).
    """
    images = channels_last(data.train_images if split == "train" else data.test_images)
    by, columns = f"{backbone_sha256(network)} {flipped}", network.get_layer(LAYER).output.shape[-1]

    def ask(block: np.ndarray) -> np.ndarray:  # compiled once, when first asked
        return compile_forward(body)(block[:, :, ::-1] if flipped else block)

    body, doing = _body(network), "features" + ", flip_averaged" * flipped
    return cached_outputs("features", by, images, columns, ask, BLOCK, doing)


def cached_outputs(
    kind: str,
    by: str,
    images: np.ndarray,
    columns: int,
    ask: Callable[[np.ndarray], np.ndarray],
    block: int,
    doing: str,
) -> np.ndarray:
    """What a network makes of images, from the cache if it has been there.

    Args:
        kind: the beginning of its name in the cache.
        by: who is asked, and for what; in the cache's key, as are the images.
        images: uint8 (n, height, width, channels).
        columns: of the answers.
        ask: gives the answers to some images, (m, columns).
        block: how many images these are.
        doing: what the bar says.

    Returns:
        float32 (n, columns).
    """
    key = hashlib.sha256(f"{by} {images.shape}".encode())
    key.update(np.ascontiguousarray(images).data)

    def fill(array: np.ndarray) -> None:
        with progress_bar(-(-len(images) // block)) as advance:
            for start in range(0, len(images), block):
                advance(doing)
                array[start : start + block] = ask(np.asarray(images[start : start + block]))

    name = f"{kind}-{key.hexdigest()[:32]}"
    return np.asarray(cached_array(name, (len(images), columns), "float32", fill))


def feature_transform(network: Any, data: Data, names: tuple[str, ...]) -> InputTransform:
    """For `chunks`: features of images; where flips are asked for, of mirror images as well."""
    kinds = (False, True) if "flip" in names else (False,)
    found = [extract_features(network, data, "train", flipped) for flipped in kinds]
    before = names[: names.index("flip")] if "flip" in names else ()
    column = noise_columns(before)

    def look(chosen: np.ndarray, noise: np.ndarray) -> np.ndarray:
        if len(found) == 1:
            return found[0][chosen]
        mirror = (noise[:, column] < 0.5)[:, np.newaxis]
        return np.where(mirror, found[1][chosen], found[0][chosen])

    return look


def _body(network: Any) -> Any:
    return keras.Model(network.inputs[0], network.get_layer(LAYER).output, name="body")
