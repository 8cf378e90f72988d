"""Networks that have learnt to see elsewhere: a backbone of keras.applications, and a new head."""

import sys
import warnings
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_BYTES = 1 << 30  # of a file of weights


@dataclass(frozen=True)
class Backbone:
    """How a network of keras.applications is used.

    Attributes:
        function: its name there.
        upper: the first layer that is fine-tuned; below are edges and textures, which clothes
            share with everything.
        means: of red, green and blue, taken from the pixels 0..255; without, they become -1..1.
    """

    function: str
    upper: str
    means: tuple[float, float, float] | None = None


BACKBONES = {
    "mobilenet": Backbone("MobileNet", "conv_pw_3"),  # arXiv:1704.04861
    "mobilenet_v2": Backbone("MobileNetV2", "block_2_expand"),  # arXiv:1801.04381
    "mobilenet_v3": Backbone("MobileNetV3Large", "expanded_conv_2_expand"),  # arXiv:1905.02244
    "resnet50": Backbone("ResNet50", "conv3_block1_1_conv", (123.68, 116.779, 103.939)),
    "resnet50_v2": Backbone("ResNet50V2", "conv3_block1_preact_bn"),  # arXiv:1603.05027
}  # resnet50: arXiv:1512.03385; its weights were made with OpenCV's order of colours


def transfer(
    image_shape: tuple[int, int, int] = (224, 224, 3),
    classes: int = 10,
    *,
    backbone: str = "mobilenet",
    weights: str = "imagenet",
    upper: str = "",
    smallest: int = 96,
    dropout: float = 0.0,
) -> Any:
    """A pretrained backbone, the mean over all places (the layer `features`), and a dense head.

    All in one flat graph. Grey pictures are tripled and small ones enlarged in it. Batch
    normalisations of the backbone stay as they are: their statistics are of far more pictures than
    there are here.

    Args:
        image_shape: (height, width, channels) of the raw pixels.
        classes: how many outputs.
        backbone: a key of `BACKBONES`.
        weights: `imagenet` downloads what Keras has, once; `none` starts from random numbers, and
            then everything learns; else the path of a file that keras.applications can load, with
            its 1,000 classes or without.
        upper: the first layer of the backbone that is fine-tuned; the backbone's own choice
            without, `features` for none.
        smallest: pixels that the shorter edge has at least when it reaches the backbone.
        dropout: the rate before the last layer.

    Returns:
        An uncompiled `keras.Model`, uint8 -> softmax probabilities float32 (n, classes). Layers
        that shall not learn are not trainable.

    Raises:
        FileNotFoundError: there is no such file of weights, or it cannot be downloaded.
        ValueError: an option is out of its range, or the weights are another network's.
    """
    if backbone not in BACKBONES:
        raise ValueError(f"backbone: got {backbone!r}; expected one of {', '.join(BACKBONES)}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout: got {dropout}; expected 0 <= rate < 1")
    if not 32 <= smallest <= 1024:
        raise ValueError(f"smallest: got {smallest}; expected 32..1024")
    if image_shape[2] not in (1, 3):
        raise ValueError(f"images of {image_shape[2]} channels; transfer expects 1 or 3")
    values = _recipe_class_weights(BACKBONES[backbone], weights)
    from fashion_cnn.keras_setup import keras

    layers, about = keras.layers, BACKBONES[backbone]
    x = pixels = keras.Input(image_shape, dtype="uint8", name="pixels")
    x = layers.Concatenate(name="tripled")([x, x, x]) if image_shape[2] == 1 else x
    if about.means:
        x = layers.Rescaling(1.0, offset=[-mean for mean in about.means])(x)
    else:
        x = layers.Rescaling(1 / 127.5, offset=-1)(x)
    if (scale := smallest / min(image_shape[:2])) > 1:
        height, width = (round(scale * edge) for edge in image_shape[:2])
        # not the layer Resizing: after it, what is called without a word on training does train
        x = keras.ops.image.resize(x, (height, width))
    x = _body(about, input_tensor=x, input_shape=tuple(x.shape[1:])).output
    x = layers.GlobalAveragePooling2D(name="features")(x)
    x = layers.Dropout(dropout)(x) if dropout else x
    x = layers.Dense(classes, activation="softmax", dtype="float32", name="head")(x)
    model = keras.Model(pixels, x, name=backbone)
    if values:
        for name, weights_of_layer in values.items():
            model.get_layer(name).set_weights(weights_of_layer)
        _freeze(model, upper or about.upper)
    return model


def _body(about: Backbone, **settings: Any) -> Any:
    """The network of keras.applications, without its last layers unless asked for."""
    from fashion_cnn.keras_setup import keras

    if "V3" in about.function:
        settings["include_preprocessing"] = False
    settings = {"include_top": False, "weights": None} | settings
    return getattr(keras.applications, about.function)(**settings)


def _freeze(model: Any, upper: str) -> None:
    """Let only the layers from `upper` on learn, and no normalisation."""
    from fashion_cnn.keras_setup import keras

    names = [layer.name for layer in model.layers]
    if upper not in names:
        raise ValueError(f"upper: no layer {upper!r}; {model.name} has {', '.join(names[2:])}")
    for i, layer in enumerate(model.layers):
        normalises = isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = i >= names.index(upper) and not normalises


def _recipe_class_weights(about: Backbone, weights: str) -> dict[str, list[Any]]:
    """The backbone's weights, layer by layer; nothing for `none`."""
    if weights == "none":
        return {}
    shape = {"input_shape": (224, 224, 3)}
    if weights == "imagenet":
        try:
            with redirect_stdout(sys.stderr):  # the bar of the download
                loaded = _body(about, weights="imagenet", **shape)
        except Exception as error:  # Keras raises just that when a download fails
            raise FileNotFoundError(
                f"--weights imagenet: {' '.join(str(error).split())}; download that file elsewhere "
                "and give its path with --weights, or train without it: --weights none"
            ) from None
    else:
        loaded = _loaded(about, Path(weights).expanduser(), shape)
    names = [layer.name for layer in _body(about, **shape).layers if layer.weights]
    values = {name: loaded.get_layer(name).get_weights() for name in names}
    if about.means:  # these were made for blue, green, red
        kernel, bias = values["conv1_conv"]
        values["conv1_conv"] = [kernel[:, :, ::-1], bias]
    return values


def _loaded(about: Backbone, path: Path, shape: dict[str, Any]) -> Any:
    """The network with the weights of a file: with its last layers, or else without."""
    if not path.is_file():
        raise FileNotFoundError(
            f"--weights: no file {str(path)!r}; expected imagenet, none, or a file that "
            f"keras.applications.{about.function}(weights=…) can load"
        )
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"--weights {path}: more than {MAX_BYTES:,} bytes")
    for top in (True, False):
        network = _body(about, include_top=top, **shape)
        try:
            with warnings.catch_warnings(action="ignore"):  # a line a layer, if they do not fit
                network.load_weights(path)
            return network
        except Exception as error:  # damaged bytes raise anything
            reason = " ".join(str(error).split())[:200]
    raise ValueError(f"--weights {path}: not weights of {about.function} ({reason})")
