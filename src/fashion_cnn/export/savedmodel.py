"""The format `savedmodel`: a folder for TensorFlow and TensorFlow Serving."""

from pathlib import Path
from typing import Any

from fashion_cnn.export.parity import Predict


def write_savedmodel(model: Any, path: Path, calibration_images: Any) -> Predict:
    """Save a Keras model as a TensorFlow SavedModel."""
    import tensorflow as tf

    model.export(path, format="tf_saved_model", verbose=False)
    loaded = tf.saved_model.load(path)  # its variables live as long as this object
    return lambda images: loaded.serve(images).numpy()
