"""The bytes of an ONNX file in; the weights of its convolutions out.

Batch normalization is a product and a sum there. An export has moved either into the convolution
before it, as part of the kernel and as its bias, or has left it behind the convolution.
"""

import numpy as np


def read_convolutions(content: bytes) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The convolutions in the order in which they are computed.

    Args:
        content: of a file that `Classifier` has read, so that it refers to no other file. Weights
            may be stored in 8 or 16 bits (format `onnx-w8`).

    Returns:
        For each, float32: the kernel (output channels, input channels, height, width), which is
            empty if the network computes it; the scale and the shift of its output (channels,).

    Raises:
        ValueError: an array is damaged, or has not one number per channel.
    """
    import onnx

    graph = onnx.load_model_from_string(content).graph
    constants = {x.name: onnx.numpy_helper.to_array(x) for x in graph.initializer}
    convolutions: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    end = ""  # the last convolution's output, behind as much of its normalization as was read
    for node in graph.node:
        values = [constants[name] for name in node.input if name in constants]
        others = [name for name in node.input if name not in constants]
        if node.op_type == "Cast" and not others:
            constants[node.output[0]] = values[0].astype(np.float32)
        elif node.op_type == "Mul" and not others:
            constants[node.output[0]] = values[0] * values[1]
        elif node.op_type == "Conv":
            kernel, *bias = values if len(others) == 1 else [np.zeros(0, np.float32)]
            shift = sum(bias, np.zeros(len(kernel), np.float32))
            convolutions.append((kernel, np.ones_like(shift), shift))
            end = node.output[0]
        elif node.op_type in ("Mul", "Add") and others == [end]:
            _, scale, shift = convolutions[-1]
            value = values[0].ravel()
            if node.op_type == "Add":
                shift += value
            else:
                scale *= value
                shift *= value
            end = node.output[0]
    return convolutions
