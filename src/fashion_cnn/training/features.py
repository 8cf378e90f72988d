"""A pretrained network and images in; the features of its backbone, and its head, out."""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from fashion_cnn.console import progress_bar
from fashion_cnn.data.augment import FLIPS, noise_columns
from fashion_cnn.data.cache import cached_array
from fashion_cnn.data.dataset import Data, channels_last
from fashion_cnn.keras_setup import keras
from fashion_cnn.models.features import LAYER
from fashion_cnn.models.forward import compile_forward
from fashion_cnn.training.batches import InputTransform

BLOCK = 64  # images between two steps of the progress bar


def has_frozen_layers(network: Any) -> bool:
    """Whether some layers with weights are not trained."""
    return any(layer.weights and not layer.trainable for layer in network.layers)


def backbone_sha256(network: Any) -> str:
    """SHA-256 of all layers up to the layer `features`: types, shapes and weights."""
    digest = hashlib.sha256()
    for layer in _backbone(network).layers:
        digest.update(f"{type(layer).__name__} {layer.output.shape}".encode())
        for weight in layer.get_weights():
            digest.update(weight.tobytes())
    return digest.hexdigest()


def head_model(network: Any) -> Any:
    """The layers after `features` as a model of their own; the layers are shared."""
    position = [layer.name for layer in network.layers].index(LAYER)
    x = features = keras.Input(network.layers[position].output.shape[1:], name=LAYER)
    for layer in network.layers[position + 1 :]:
        x = layer(x)
    return keras.Model(features, x, name="head")


def extract_features(network: Any, data: Data, split: str, flipped: bool = False) -> np.ndarray:
    """The output of the layer `features` for all images of `train` or `test`, float32, cached."""
    images = channels_last(data.train_images if split == "train" else data.test_images)
    backbone = _backbone(network)

    def compute(block: np.ndarray) -> np.ndarray:  # compiled on the first call
        return compile_forward(backbone)(block[:, :, ::-1] if flipped else block)

    return cached_outputs(
        "features",
        f"{backbone_sha256(network)} {flipped}",
        images,
        columns=network.get_layer(LAYER).output.shape[-1],
        compute=compute,
        block=BLOCK,
        description="features of flipped images" if flipped else "features",
    )


def cached_outputs(
    kind: str,
    key: str,
    images: np.ndarray,
    columns: int,
    compute: Callable[[np.ndarray], np.ndarray],
    block: int,
    description: str,
) -> np.ndarray:
    """The outputs of a network for images, float32 (n, columns), computed once and cached on disk.

    `kind` begins the file's name; `key` names the network and its settings. `compute` is called
    with `block` images at a time, under a progress bar with the `description`.
    """
    digest = hashlib.sha256(f"{key} {images.shape}".encode())
    digest.update(np.ascontiguousarray(images).data)

    def fill(array: np.ndarray) -> None:
        with progress_bar(-(-len(images) // block)) as advance:
            for start in range(0, len(images), block):
                advance(description)
                array[start : start + block] = compute(np.asarray(images[start : start + block]))

    name = f"{kind}-{digest.hexdigest()[:32]}"
    return np.asarray(cached_array(name, (len(images), columns), "float32", fill))


def feature_transform(network: Any, data: Data, names: tuple[str, ...]) -> InputTransform:
    """Features in place of pixels; of flipped images, too, if one of `FLIPS` is among the names.

    Features are computed once, so every other augmentation has no effect on them.
    """
    flip = next((name for name in names if name in FLIPS), None)
    variants = (False, True) if flip else (False,)
    features = [extract_features(network, data, "train", flipped) for flipped in variants]
    before = names[: names.index(flip)] if flip else ()
    column = noise_columns(before)

    def transform(index: np.ndarray, noise: np.ndarray) -> np.ndarray:
        if len(features) == 1:
            return features[0][index]
        flipped = (noise[:, column] < 0.5)[:, np.newaxis]
        return np.where(flipped, features[1][index], features[0][index])

    return transform


def _backbone(network: Any) -> Any:
    return keras.Model(network.inputs[0], network.get_layer(LAYER).output, name="backbone")
