"""Where pixels come from: a source in, uint8 images, labels and a fixed split out."""

from fashion_cnn.data.dataset import Data, as_data
from fashion_cnn.data.fashion_mnist import load_fashion_mnist

__all__ = ["Data", "as_data", "load_data"]


def load_data(source: str = "fashion-mnist") -> Data:
    """Load a data set.

    Args:
        source: `fashion-mnist`, or a folder that holds its four IDX files (gzipped or not).

    Returns:
        `Data`: `train_images` uint8 (60000, 28, 28), `train_labels` uint8 (60000,), `test_images`
        (10000, 28, 28), `test_labels` (10000,), the ten `class_names`, and `validation_index`, the
        5,000 training images (500 of each class, always the same) that are held out.

    Raises:
        FileNotFoundError: the files are neither on this machine nor to be had from any mirror.
        ValueError: a file is damaged or is not Fashion-MNIST.
    """
    return load_fashion_mnist(source)
