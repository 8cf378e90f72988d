"""Wrappers around trained networks: flip averaging, ensembles, temperature."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fashion_cnn.keras_setup import keras


def flip_averaged(model: Any) -> Any:
    """A model whose output is the mean of the outputs for each image and its mirror image."""
    pixels = keras.Input(model.input_shape[1:], dtype="uint8", name="pixels")
    outputs = [model(pixels), model(keras.ops.flip(pixels, axis=2))]
    return keras.Model(pixels, keras.layers.Average()(outputs), name=f"{model.name}_flip_averaged")


def average_models(networks: Sequence[Any]) -> Any:
    """An ensemble: its output is the mean of the networks' outputs. Renames the networks."""
    pixels = keras.Input(networks[0].input_shape[1:], dtype="uint8", name="pixels")
    for i, network in enumerate(networks):
        network.name = f"{network.name}_{i}"
    outputs = [network(pixels) for network in networks]
    return keras.Model(pixels, keras.layers.Average()(outputs), name="ensemble")


def with_temperature(model: Any, temperature: float) -> Any:
    """A copy of a model with temperature scaling (arXiv:1706.04599) built in; itself at 1.

    If the model ends in a softmax layer, the weights of that layer are divided by the temperature.
    Otherwise, as in an average of networks, p^(1/T), normalized, is appended; for a softmax the two
    are equal.
    """
    if temperature == 1:
        return model
    last = model.layers[-1]
    if isinstance(last, keras.layers.Dense) and last.activation is keras.activations.softmax:
        copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
        copy.layers[-1].set_weights([weight / temperature for weight in last.get_weights()])
        return copy
    pixels = keras.Input(model.input_shape[1:], dtype="uint8", name="pixels")
    positive = keras.ops.maximum(model(pixels), np.finfo(np.float32).tiny)
    outputs = keras.ops.softmax(keras.ops.log(positive) / temperature)
    return keras.Model(pixels, outputs, name=f"{model.name}_with_temperature")
