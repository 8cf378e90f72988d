"""A `keras.Model` of the user's own, behind an input of raw pixels."""

from typing import Any

import numpy as np

from fashion_cnn.data.dataset import Data, channels_last
from fashion_cnn.keras_setup import keras


def with_raw_pixels(model: Any, scale: str | None, data: Data) -> Any:
    """Put the user's model behind an input of uint8 pixels, and check that it fits the data."""
    if scale not in ("0..255", "0..1"):
        raise ValueError(
            f"scale: got {scale!r}; expected '0..255' or '0..1', the pixels that your model takes "
            "(with the wrong one it trains badly, and without an error)"
        )
    pixels = keras.Input(data.image_shape, dtype="uint8", name="pixels")
    scaled = keras.layers.Rescaling(1 / 255 if scale == "0..1" else 1.0)(pixels)
    network = keras.Model(pixels, model(scaled))
    classes = len(data.class_names)
    if network.output_shape != (None, classes):
        raise ValueError(f"model: output {network.output_shape}; expected (None, {classes})")
    sums = np.sum(network.predict(channels_last(data.train_images[:2]), verbose=0), axis=-1)
    if not np.allclose(sums, 1, atol=1e-3):
        raise ValueError(
            f"model: outputs add up to {sums}; expected probabilities (end in softmax)"
        )
    return network
