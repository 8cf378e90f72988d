"""The textbook network: three convolutions, two poolings, two dense layers."""

from typing import Any

from fashion_cnn.models.layers import resize_layers


def textbook(
    image_shape: tuple[int, int, int] = (28, 28, 1),
    classes: int = 10,
    *,
    padding: str = "valid",
    batch_norm: bool = False,
    dropout: float = 0.0,
) -> Any:
    """The network every tutorial builds, with its usual improvements as options.

    Args:
        image_shape: (height, width, channels) of the raw pixels.
        classes: how many outputs.
        padding: of the first two convolutions; `valid` has 241,546 parameters on 28x28x1,
            `same` has 503,690. The third is never padded.
        batch_norm: normalise between each convolution and its ReLU (arXiv:1502.03167).
        dropout: the rate before both dense layers (Srivastava et al., JMLR 15, 2014).

    Returns:
        An uncompiled `keras.Model`, uint8 -> softmax probabilities float32 (n, classes).

    Raises:
        ValueError: an option is out of its range.
    """
    if padding not in ("valid", "same"):
        raise ValueError(f"padding: got {padding!r}; expected valid or same")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout: got {dropout}; expected 0 <= rate < 1")
    from fashion_cnn.keras_setup import keras

    layers = keras.layers

    def convolution(filters: int, padding: str) -> list[Any]:
        if not batch_norm:
            return [layers.Conv2D(filters, 3, padding=padding, activation="relu")]
        # the normalisation's own offset takes the place of the bias
        plain = layers.Conv2D(filters, 3, padding=padding, use_bias=False)
        return [plain, layers.BatchNormalization(), layers.ReLU()]

    def forget() -> list[Any]:
        return [layers.Dropout(dropout)] if dropout else []

    return keras.Sequential(
        [
            keras.Input(image_shape, dtype="uint8", name="pixels"),
            layers.Rescaling(1 / 255),
            *resize_layers(image_shape),
            *convolution(32, padding),
            layers.MaxPooling2D(),
            *convolution(64, padding),
            layers.MaxPooling2D(),
            *convolution(128, "valid"),
            layers.Flatten(),
            *forget(),
            layers.Dense(128, activation="relu"),
            *forget(),
            layers.Dense(classes, activation="softmax", dtype="float32"),
        ],
        name="textbook",
    )
