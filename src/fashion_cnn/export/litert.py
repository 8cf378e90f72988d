"""The format `litert`: for phones, by LiteRT (formerly TensorFlow Lite)."""

from pathlib import Path
from typing import Any

from fashion_cnn.export.parity import Predict


def write_litert(model: Any, path: Path, calibration_images: Any) -> Predict:
    """Save a Keras model for LiteRT."""
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    content = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    path.write_bytes(content)
    interpreter = Interpreter(model_content=content)
    (pixels,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()

    def predict(images: Any) -> Any:
        interpreter.resize_tensor_input(pixels["index"], images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(pixels["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(output["index"])

    return predict
