"""Where the data of a run is, from runs that have hardly begun."""

import re
from dataclasses import replace

import numpy as np
import pytest

from fashion_cnn.data import as_data, load_data
from fashion_cnn.data.recorded import find_source, require_same_data
from fashion_cnn.run import Run

X, Y = np.arange(24 * 16, dtype=np.uint8).reshape(24, 4, 4), np.arange(24) % 2
ARRAYS = {"x_train": X, "y_train": Y, "x_test": X[:4], "y_test": Y[:4]}


def start_run(folder, data):
    run = Run(folder)
    source = {"source": data.source, "sha256": data.sha256, "class_names": data.class_names}
    run.write_environment({"data": source})
    return run


def save(path, **changes):
    np.savez(path, **ARRAYS | changes)
    return load_data(path)


def test_a_run_finds_its_data_until_it_moves(tmp_path):
    run = start_run(tmp_path, save(tmp_path / "old.npz"))
    old, new = str(tmp_path / "old.npz"), str(tmp_path / "new.npz")
    assert find_source(run) == old
    (tmp_path / "old.npz").rename(new)
    expected = f"{run}: its data is no longer at {old}; give --data the place where it is now"
    with pytest.raises(FileNotFoundError, match=f"^{re.escape(expected)}$"):
        find_source(run)
    assert find_source(run, new) == new


def test_a_run_on_arrays_takes_the_file_that_they_were_saved_to(tmp_path):
    run = start_run(tmp_path, as_data(((X, Y), (X[:4], Y[:4]))))
    with pytest.raises(ValueError, match=r"trained on arrays.*np\.savez.*give --data data\.npz"):
        find_source(run)
    require_same_data(run, save(tmp_path / "data.npz"))


def test_other_data_is_refused_by_name(tmp_path):
    run = start_run(tmp_path, save(tmp_path / "old.npz"))
    other = save(tmp_path / "new.npz", x_test=X[4:8])
    other = replace(other, class_names=("a", "b"))
    with pytest.raises(
        ValueError, match=r"new\.npz is not what .* \(x_test, class names differ\); restore it"
    ):
        require_same_data(run, other)
