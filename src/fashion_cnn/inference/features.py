"""An exported model in; a function that returns predictions and features of images out."""

from collections.abc import Callable

import numpy as np

from fashion_cnn.inference.classifier import Classifier
from fashion_cnn.inference.session import start_session

Outputs = tuple[np.ndarray, np.ndarray, np.ndarray]


def normalized(vectors: np.ndarray) -> np.ndarray:
    """Vectors (n, units) of length 1; a zero vector stays zero."""
    tiny = np.finfo(np.float32).tiny
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), tiny)


def open_features(classifier: Classifier) -> Callable[[np.ndarray], Outputs]:
    """A function of a batch of images that returns what is predicted, and their features.

    It takes raw pixels, uint8 (n, height, width, channels), of the model's size, and returns the
    two arrays of `Classifier.outputs` and features, float32 (n, units): the input of the last dense
    layer before the softmax, or the probabilities where there is none.
    """
    import onnx

    model = onnx.load_from_string(classifier.content)
    names = [output.name for output in model.graph.output]
    dense = names[0]
    for node in model.graph.node:
        if node.op_type == "Softmax":
            break
        dense = node.input[0] if node.op_type in ("MatMul", "Gemm") else dense
    if dense not in names:
        model.graph.output.append(onnx.ValueInfoProto(name=dense))
    session = start_session(model.SerializeToString(), 0)
    pixels = session.get_inputs()[0].name

    def outputs(images: np.ndarray) -> Outputs:
        features, probabilities, *others = session.run([dense, *names], {pixels: images})
        count = len(probabilities)
        similarities = others[0] if others else np.full(count, np.nan, np.float32)
        return probabilities, similarities, features.reshape(count, -1).astype(np.float32)

    return outputs
