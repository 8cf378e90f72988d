"""The similarity to the training images as an output of an ONNX file, beside the probabilities."""

from pathlib import Path

import numpy as np

from fashion_cnn.evaluation.unknown import NO_CLUSTER, OUTLIER

OUTPUT = "similarity"


def add_similarity(path: Path, means: np.ndarray, classes: np.ndarray) -> None:
    """Replace the second output of an ONNX file, features, by what `similarities` computes of them.

    Args:
        path: a file with the outputs probabilities (n, classes) and features (n, units).
        means: float16 (k, units), as `evaluation.unknown.with_outliers` returns them.
        classes: int64 (k,), of the means.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(path)
    graph = model.graph
    probabilities, features = (output.name for output in graph.output)
    prefix = f"{OUTPUT}/"
    constants = {
        "means": np.ascontiguousarray(means.T),
        "classes": classes[np.newaxis],
        "is_outlier": classes[np.newaxis] == OUTLIER,
        "no_cluster": np.array(NO_CLUSTER, np.float32),
        "0": np.array(0, np.float32),
        "-1": np.array(-1, np.float32),
        "1": np.array(1, np.float32),
    }
    for name, value in constants.items():
        graph.initializer.append(numpy_helper.from_array(value, prefix + name))

    def node(kind: str, inputs: list[str], output: str, **attributes: int | list[int]) -> None:
        graph.node.append(helper.make_node(kind, inputs, [output], **attributes))

    node("LpNormalization", [features], prefix + "normalized", axis=1, p=2)
    node("Cast", [prefix + "means"], prefix + "float32", to=TensorProto.FLOAT)
    node("MatMul", [prefix + "normalized", prefix + "float32"], prefix + "products")
    node("Clip", [prefix + "products", prefix + "-1", prefix + "1"], prefix + "cosines")
    node("ArgMax", [probabilities], prefix + "predicted", axis=1, keepdims=1)
    node("Equal", [prefix + "predicted", prefix + "classes"], prefix + "is_of_class")
    of_class = [prefix + "is_of_class", prefix + "cosines", prefix + "no_cluster"]
    node("Where", of_class, prefix + "of_class")
    of_outliers = [prefix + "is_outlier", prefix + "cosines", prefix + "0"]
    node("Where", of_outliers, prefix + "of_outliers")
    for name in ("of_class", "of_outliers"):
        node("ReduceMax", [prefix + name], f"{prefix}{name}/most", axes=[1], keepdims=0)
    node("Sub", [f"{prefix}of_class/most", f"{prefix}of_outliers/most"], OUTPUT)
    del graph.output[1]
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["n"]))
    onnx.save(model, path)
