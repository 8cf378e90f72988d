"""The textbook network: three convolutions, two max poolings, two dense layers."""

from typing import Any


def textbook(
    image_shape: tuple[int, int, int] = (28, 28, 1),
    classes: int = 10,
    *,
    padding: str = "valid",  # or `same`; of the first two convolutions
    batch_norm: bool = False,  # between each convolution and its ReLU (arXiv:1502.03167)
    dropout: float = 0.0,  # rate before both dense layers (Srivastava et al., JMLR 15, 2014)
) -> Any:
    """The network of most tutorials, with its usual improvements as options.

    On 28x28x1 it has 241,546 parameters with `valid` padding and 503,690 with `same`.
    """
    from fashion_cnn.keras_setup import keras
    from fashion_cnn.models.layers import require_rate, resize_layers

    if padding not in ("valid", "same"):
        raise ValueError(f"padding: got {padding!r}; expected valid or same")
    require_rate("dropout", dropout)
    layers = keras.layers

    def convolution(filters: int, padding: str) -> list[Any]:
        if not batch_norm:
            return [layers.Conv2D(filters, 3, padding=padding, activation="relu")]
        # no bias: the offset of the batch normalization takes its place
        convolution = layers.Conv2D(filters, 3, padding=padding, use_bias=False)
        return [convolution, layers.BatchNormalization(), layers.ReLU()]

    def dropout_layers() -> list[Any]:
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
            *dropout_layers(),
            layers.Dense(128, activation="relu"),
            *dropout_layers(),
            layers.Dense(classes, activation="softmax", dtype="float32"),
        ],
        name="textbook",
    )
