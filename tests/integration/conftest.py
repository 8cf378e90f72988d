"""Data that several files of tests use, made once for all workers."""

import numpy as np
import pytest
from command import QUICK_XLA, run_on_jax, write_data_npz
from multi_process import IMAGES, STABLE
from PIL import Image

from fashion_cnn.data import as_data


@pytest.fixture(scope="session")
def make_once(tmp_path_factory):
    """`make_once("name", make)`: a folder that `make(folder)` fills, once for all workers."""
    import fcntl  # Windows has none

    root = tmp_path_factory.getbasetemp()
    root = root if root.name.startswith("pytest-") else root.parent  # above the workers' folders

    def folder(name, make):
        path = root / f"once-{name}"
        with (root / f"once-{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (path / "made").exists():
                path.mkdir()
                make(path)
                (path / "made").touch()
        return path

    return folder


@pytest.fixture
def fast_compilation(monkeypatch):
    """Processes on JAX that a test starts compile quickly."""
    for name, flags in QUICK_XLA.items():
        monkeypatch.setenv(name, flags)


@pytest.fixture(scope="session")
def data(real_data):
    """The images that `STABLE` is trained on."""
    x, y = real_data.train_images[:IMAGES], real_data.train_labels[:IMAGES]
    return as_data(((x, y), (real_data.test_images[:20], real_data.test_labels[:20])))


TRAIN_IN_ONE_PROCESS = """
import numpy as np
from fashion_cnn import build_model, train
from fashion_cnn.keras_setup import keras
from fashion_cnn.recipes import find_recipe
recipe = find_recipe("recipe.json")
keras.utils.set_random_seed(recipe.seed)
start = build_model(recipe.model, (28, 28, 1), 10, recipe.options).get_weights()
end = train(recipe, "data.npz").model.get_weights()
np.savez("start.npz", *start)
np.savez("end.npz", *end)
"""


@pytest.fixture(scope="session")
def one_process(data, make_once):
    """The weights before and after a training by one process, on the same backend."""

    def make(folder):
        (folder / "recipe.json").write_text(STABLE.to_json())
        write_data_npz(folder / "data.npz", data)
        run_on_jax(TRAIN_IN_ONE_PROCESS, cwd=folder)

    folder = make_once("one-process", make)
    start, end = (list(np.load(folder / f"{name}.npz").values()) for name in ("start", "end"))
    assert min(np.abs(a - b).max() for a, b in zip(start, end, strict=True)) > 5e-4
    return start, end


@pytest.fixture(scope="session")
def few_images(first_images, tmp_path_factory):
    """A source of 500 training and 100 test images."""
    path = tmp_path_factory.mktemp("few") / "few.npz"
    write_data_npz(path, first_images(train=500, test=100))
    return path


@pytest.fixture(scope="session")
def picture_folder(make_once, real_data):
    """4,200 pictures in folders, named in their order."""

    def make(root):
        for i in range(4200):
            folder = root / "picture_folder" / f"{i // 1000}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(real_data.test_images[i]).save(folder / f"{i:05d}.png")

    return make_once("pictures", make) / "picture_folder"
