"""Where pixels come from: a source in, uint8 images, labels and a fixed split out."""

from pathlib import Path

from fashion_cnn.data.dataset import Data, as_data
from fashion_cnn.data.fashion_mnist import is_fashion_mnist, load_fashion_mnist

__all__ = ["Data", "as_data", "load_data"]


def load_data(source: str | Path = "fashion-mnist", image_size: int = 0) -> Data:
    """Load a data set.

    Args:
        source: `fashion-mnist`; a folder of class folders of pictures; a folder of IDX files, as
            MNIST's, KMNIST's and EMNIST's are; or an `.npz` of `x_train`, `y_train`, `x_test` and
            `y_test`.
        image_size: height and width that the pictures of class folders get; see `load_folder`.

    Returns:
        `Data`. Of Fashion-MNIST: `train_images` uint8 (60000, 28, 28), `train_labels` uint8
        (60000,), `test_images` (10000, 28, 28), `test_labels` (10000,), the ten `class_names`, and
        `validation_index`, the 5,000 training images (500 of each class, always the same) that are
        held out.

    Raises:
        FileNotFoundError: there is no such source; or Fashion-MNIST is neither on this machine nor
            to be had from any mirror.
        ValueError: a file is damaged, or it is nothing that can be learnt from.
    """
    path = Path(source)
    if str(source) == "fashion-mnist":
        return load_fashion_mnist()
    if path.is_file():
        from fashion_cnn.data.mnist import load_npz

        return load_npz(path)
    if not path.is_dir():
        raise FileNotFoundError(
            f"--data: no folder {str(source)!r}; expected fashion-mnist, a folder of class folders "
            "or of IDX files, or an .npz"
        )
    if is_fashion_mnist(path):
        return load_fashion_mnist(str(path))
    from fashion_cnn.data.mnist import idx_files, load_idx

    if idx_files(path):
        return load_idx(path)
    from fashion_cnn.data.folder import load_folder

    return load_folder(path, image_size)
