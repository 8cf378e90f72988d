"""Wrappers around trained networks: flip averaging, ensembles, temperature."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fashion_cnn.keras_setup import keras


def flip_averaged(model: Any) -> Any:
    """A network that answers with the mean over each image and its mirror image."""
    pixels = keras.Input(model.input_shape[1:], dtype="uint8", name="pixels")
    answers = [model(pixels), model(keras.ops.flip(pixels, axis=2))]
    return keras.Model(pixels, keras.layers.Average()(answers), name=f"{model.name}_flip_averaged")


def average_models(networks: Sequence[Any]) -> Any:
    """A network that answers with the mean over networks of the same images."""
    pixels = keras.Input(networks[0].input_shape[1:], dtype="uint8", name="pixels")
    for i, network in enumerate(networks):
        network.name = f"{network.name}_{i}"
    answers = [network(pixels) for network in networks]
    return keras.Model(pixels, keras.layers.Average()(answers), name="ensemble")


def with_temperature(model: Any, temperature: float) -> Any:
    """The network with a temperature in it (arXiv:1706.04599): the same answers, less or more sure.

    Where one softmax ends the network, the weights before it are divided by the temperature; a mean
    of several networks gets p^(1/T), normalised, at its end, which is the same for one.

    Args:
        model: a `keras.Model` that ends in probabilities; it is left as it is.
        temperature: above 0.

    Returns:
        A `keras.Model`; the very same where the temperature is 1.
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
    tiny = keras.ops.maximum(model(pixels), np.finfo(np.float32).tiny)
    answers = keras.ops.softmax(keras.ops.log(tiny) / temperature)
    return keras.Model(pixels, answers, name=f"{model.name}_with_temperature")
