"""A network in; the network up to its features, and the network with features as an output, out."""

from typing import Any

from fashion_cnn.keras_setup import keras

LAYER = "features"  # of the transfer networks


def features_model(model: Any) -> Any | None:
    """The network up to its features, float32 (n, units).

    These are the output of the layer `features`, else the input of the last dense layer. Of an
    average over flips they are those of the unflipped image. None for an ensemble, and for a
    network that ends in something else than a dense layer on a vector.
    """
    if not isinstance(model.layers[-1], keras.layers.Dense):
        wrapped = [layer for layer in model.layers if isinstance(layer, keras.Model)]
        takes_pixels = len(wrapped) == 1 and wrapped[0].inputs[0].dtype == "uint8"
        return features_model(wrapped[0]) if takes_pixels else None
    try:
        if any(layer.name == LAYER for layer in model.layers):
            features = model.get_layer(LAYER).output
        else:
            features = model.layers[-1].input
        network = keras.Model(model.inputs[0], keras.ops.cast(features, "float32"))
    except (AttributeError, ValueError):  # not a graph of layers, or a layer that is used twice
        return None
    return network if len(features.shape) == 2 else None


def with_features(model: Any) -> Any:
    """A model with two outputs: its own, and its `features_model`'s, which must exist."""
    features = features_model(model)
    if features is None:
        raise ValueError(f"{model.name}: has no features; expected a dense layer at its end")
    if features.inputs[0] is model.inputs[0]:
        return keras.Model(model.inputs[0], [model.outputs[0], features.outputs[0]])
    pixels = keras.Input(model.input_shape[1:], dtype="uint8", name="pixels")
    return keras.Model(pixels, [model(pixels), features(pixels)])
