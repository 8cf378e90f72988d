"""Transfer learning: a pretrained backbone with a new head."""

import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fashion_cnn.inference.classifier import Classifier
from fashion_cnn.inference.model_files import PRESETS, presets
from fashion_cnn.models import efficientnet_lite

MAX_WEIGHTS_BYTES = 1 << 30  # of a file of weights


@dataclass(frozen=True)
class Backbone:
    """How a pretrained network is used."""

    function: str  # in keras.applications
    fine_tune_from: str  # the first layer to fine-tune; below it are edges and textures
    # of red, green, blue, subtracted from pixels 0..255. Default: (pixels - mean) / scale
    channel_means: tuple[float, float, float] | None = None
    mean: float = 127.5
    scale: float = 127.5
    lite: int | None = None  # the variant of EfficientNet-Lite, which is not in keras.applications


BACKBONES = {
    "mobilenet": Backbone("MobileNet", "conv_pw_3"),  # arXiv:1704.04861
    "mobilenet_v2": Backbone("MobileNetV2", "block_2_expand"),  # arXiv:1801.04381
    "mobilenet_v3": Backbone("MobileNetV3Large", "expanded_conv_2_expand"),  # arXiv:1905.02244
    # arXiv:1512.03385; its weights expect the channels in the order blue, green, red
    "resnet50": Backbone("ResNet50", "conv3_block1_1_conv", (123.68, 116.779, 103.939)),
    "resnet50_v2": Backbone("ResNet50V2", "conv3_block1_preact_bn"),  # arXiv:1603.05027
}
for _variant, _block in ((0, 3), (1, 4), (2, 4)):
    BACKBONES[f"efficientnet_lite{_variant}"] = Backbone(
        f"EfficientNetLite{_variant}",
        f"block_{_block}_expand",
        mean=efficientnet_lite.MEAN,
        scale=efficientnet_lite.SCALE,
        lite=_variant,
    )


def transfer(
    image_shape: tuple[int, int, int] = (224, 224, 3),
    classes: int = 10,
    *,
    backbone: str = "mobilenet",  # a key of `BACKBONES`
    weights: str = "imagenet",  # or `none`; or a preset or a path: see docs/train.md
    fine_tune_from: str = "",  # the first layer to fine-tune; `features` for none
    min_size: int = 96,  # pixels; smaller images are enlarged until the shorter edge is this long
    dropout: float = 0.0,  # rate before the last layer
) -> Any:
    """A pretrained backbone, global average pooling (the layer `features`), and a dense head.

    The model is one flat graph, which also converts grayscale images to three channels. Layers
    below `fine_tune_from` are frozen, and so is batch normalization: its statistics come from far
    more images than there are here. With the weights `none`, all layers are trained.
    """
    from fashion_cnn.keras_setup import keras
    from fashion_cnn.models.layers import require_rate

    if backbone not in BACKBONES:
        raise ValueError(f"backbone: got {backbone!r}; expected one of {', '.join(BACKBONES)}")
    require_backbone(weights, backbone)
    require_rate("dropout", dropout)
    if not 32 <= min_size <= 1024:
        raise ValueError(f"min_size: got {min_size}; expected 32..1024")
    if image_shape[2] not in (1, 3):
        raise ValueError(f"images of {image_shape[2]} channels; transfer expects 1 or 3")
    config = BACKBONES[backbone]
    pretrained = _pretrained_weights(config, weights)
    layers = keras.layers
    x = pixels = keras.Input(image_shape, dtype="uint8", name="pixels")
    x = layers.Concatenate(name="tripled")([x, x, x]) if image_shape[2] == 1 else x
    if config.channel_means:
        x = layers.Rescaling(1.0, offset=[-mean for mean in config.channel_means])(x)
    else:
        x = layers.Rescaling(1 / config.scale, offset=-config.mean / config.scale)(x)
    if (scale := min_size / min(image_shape[:2])) > 1:
        height, width = (round(scale * edge) for edge in image_shape[:2])
        # not the layer Resizing: after it, a call without `training` runs in training mode
        x = keras.ops.image.resize(x, (height, width))
    if config.lite is not None:
        x = efficientnet_lite.efficientnet_lite(x, config.lite)
    else:
        x = _application(config)(input_shape=tuple(x.shape[1:]), input_tensor=x).output
    x = layers.GlobalAveragePooling2D(name="features")(x)
    x = layers.Dropout(dropout)(x) if dropout else x
    x = layers.Dense(classes, activation="softmax", dtype="float32", name="head")(x)
    model = keras.Model(pixels, x, name=backbone)
    if pretrained:
        for name, layer_weights in pretrained.items():
            model.get_layer(name).set_weights(layer_weights)
        _freeze(model, fine_tune_from or config.fine_tune_from)
    else:
        _lower_momentum(model)
    return model


def require_backbone(weights: str, backbone: str) -> None:
    """Raise ValueError if the weights are a preset, and its network is not the backbone."""
    if weights in PRESETS:
        recipe = presets()[weights]["recipe"]
        network = recipe["options"].get("backbone", recipe["model"])
        if network != backbone:
            raise ValueError(
                f"--weights {weights}: weights of {network}; got the backbone {backbone}; expected "
                "imagenet, none, or the path of a file"
            )


def _application(config: Backbone) -> Callable[..., Any]:
    """The function of keras.applications; by default random weights, without its own head."""
    from fashion_cnn.keras_setup import keras

    defaults = {"input_shape": (224, 224, 3), "weights": None, "include_top": False}
    if config.function.startswith("MobileNetV3"):
        defaults["include_preprocessing"] = False
    return partial(getattr(keras.applications, config.function), **defaults)


def _freeze(model: Any, fine_tune_from: str) -> None:
    """Make only the layers from `fine_tune_from` on trainable, and no batch normalization."""
    from fashion_cnn.keras_setup import keras

    names = [layer.name for layer in model.layers]
    if fine_tune_from not in names:
        raise ValueError(
            f"fine_tune_from: no layer {fine_tune_from!r}; {model.name} has {', '.join(names[2:])}"
        )
    first = names.index(fine_tune_from)
    for i, layer in enumerate(model.layers):
        normalizes = isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = i >= first and not normalizes


def _lower_momentum(model: Any) -> None:
    """Set the momentum of batch normalization to 0.9, for trainings of hundreds of steps.

    Backbones have 0.99 and more, for a million images: the moving averages would still be those of
    the start, and predictions no better than chance.
    """
    from fashion_cnn.keras_setup import keras

    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9


def _pretrained_weights(config: Backbone, weights: str) -> dict[str, list[Any]]:
    """Layer name -> weights of the backbone; empty for `none`."""
    if weights == "none":
        return {}
    if config.lite is not None:
        if weights in PRESETS or weights.endswith(".onnx") or Path(weights).expanduser().is_dir():
            content = Classifier.load(weights).content
            return efficientnet_lite.read_onnx_weights(content, weights, config.lite)
        is_name = weights == "imagenet"
        path = efficientnet_lite.installed_weights(config.lite) if is_name else Path(weights)
        path = _require_weights(config, path.expanduser())
        return efficientnet_lite.read_weights(path, config.lite)
    if weights == "imagenet":
        try:
            with redirect_stdout(sys.stderr):  # the progress bar of the download
                network = _application(config)(weights="imagenet")
        except Exception as error:  # Keras raises a plain Exception when a download fails
            raise FileNotFoundError(
                f"--weights imagenet: {' '.join(str(error).split())}; download that file elsewhere "
                "and give its path with --weights, or train without it: --weights none; the "
                "recipe efficientnet needs no download"
            ) from None
    else:
        network = _load_weights(config, Path(weights).expanduser())
    values = {}
    for layer in _application(config)().layers:
        if layer.weights:
            values[layer.name] = network.get_layer(layer.name).get_weights()
    if config.channel_means:  # trained on blue, green, red: reverse the input channels
        kernel, bias = values["conv1_conv"]
        values["conv1_conv"] = [kernel[:, :, ::-1], bias]
    return values


def _require_weights(config: Backbone, path: Path) -> Path:
    """Raise an error unless there is a file of a sensible size."""
    if not path.is_file():
        expected = f"that keras.applications.{config.function}(weights=…) can load"
        expected = "of PyTorch (.pth) or an export (.onnx)" if config.lite is not None else expected
        raise FileNotFoundError(
            f"--weights: no file {str(path)!r}; expected imagenet, none, or a file {expected}"
        )
    if path.stat().st_size > MAX_WEIGHTS_BYTES:
        raise ValueError(f"--weights {path}: more than {MAX_WEIGHTS_BYTES:,} bytes")
    return path


def _load_weights(config: Backbone, path: Path) -> Any:
    """The network with the weights of a file that is with or without the 1,000-class head."""
    _require_weights(config, path)
    for include_top in (True, False):
        network = _application(config)(include_top=include_top)
        try:
            with warnings.catch_warnings(action="ignore"):  # one per layer that does not fit
                network.load_weights(path)
            return network
        except Exception as error:  # damaged bytes raise all kinds of errors
            reason = " ".join(str(error).split())[:200]
    raise ValueError(f"--weights {path}: not weights of {config.function} ({reason})")
