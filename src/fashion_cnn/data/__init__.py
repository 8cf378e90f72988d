"""Load a data set: a source goes in; uint8 images, labels and a fixed split come out."""

from pathlib import Path

from fashion_cnn.data.dataset import Data, as_data
from fashion_cnn.data.fashion_mnist import is_fashion_mnist, load_fashion_mnist
from fashion_cnn.data.mnist import idx_files, load_idx, load_npz

__all__ = ["Data", "as_data", "load_data"]


def load_data(source: str | Path = "fashion-mnist", image_size: int = 0) -> Data:
    """Load a data set.

    Args:
        source: `fashion-mnist`; a folder with one folder of pictures per class; a folder of IDX
            files, as in MNIST, KMNIST and EMNIST; or an `.npz` with the arrays `x_train`,
            `y_train`, `x_test` and `y_test`. Default: `fashion-mnist`.
        image_size: height and width in pixels to which pictures in class folders are resized;
            ignored for other sources. Default: 0, which keeps small pictures that all have the
            same size and resizes all others to 64.

    Returns:
        `Data`. For Fashion-MNIST: `train_images` uint8 (60000, 28, 28), `train_labels` uint8
        (60000,), `test_images` uint8 (10000, 28, 28), `test_labels` uint8 (10000,), the ten
        `class_names`, and `validation_index`, the 5,000 training images (500 per class, always
        the same) that are held out for validation.

    Raises:
        FileNotFoundError: the source does not exist; or Fashion-MNIST is not on this machine and
            cannot be downloaded from any mirror.
        ValueError: a file is damaged, or the source cannot be used for training.
    """
    path = Path(source)
    if str(source) == "fashion-mnist":
        return load_fashion_mnist()
    if path.is_file():
        return load_npz(path)
    if not path.is_dir():
        raise FileNotFoundError(
            f"--data: no folder {str(source)!r}; expected fashion-mnist, a folder of class folders "
            "or of IDX files, or an .npz"
        )
    if is_fashion_mnist(path):
        return load_fashion_mnist(path)
    if idx_files(path):
        return load_idx(path)
    from fashion_cnn.data.folder import load_folder  # slow to import

    return load_folder(path, image_size)
