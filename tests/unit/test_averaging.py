import dataclasses
import importlib.util

import numpy as np
import pytest
from command import run_on_jax, write_data_npz

from fashion_cnn import RECIPES, train
from fashion_cnn.keras_setup import keras

# One step an epoch: callbacks see the weights of every step. Then a run that is broken off.
AVERAGES = """
import dataclasses
import numpy as np
from dense_network import network
from fashion_cnn import RECIPES, load_data, train
from fashion_cnn.keras_setup import keras
from fashion_cnn.training import loop

IMAGES = 165
plus = dataclasses.replace(RECIPES["textbook-plus"], seed=3, augment=("flip",))


class Record(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.trained, self.shown = [], []

    def on_train_begin(self, logs=None):
        self.start = self.model.get_weights()

    def on_train_batch_end(self, batch, logs=None):
        self.trained.append(self.model.get_weights())

    def on_epoch_end(self, epoch, logs=None):
        self.shown.append(self.model.get_weights())


class Break(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


def flat(weights):
    return np.concatenate([w.ravel() for w in weights])


data = load_data("data.npz")
loop.build_model = network
if keras.backend.backend() == "jax" and ON_DEVICE:
    from fashion_cnn.training import jax
    jax.fits_on_device = lambda images: True
record = Record()
every_step = dataclasses.replace(plus, ema=0.3, epochs=5, batch_size=IMAGES)
end = train(every_step, data, callbacks=[record]).model.get_weights()
trained, shown = (np.stack([flat(w) for w in x]) for x in (record.trained, record.shown))
few = dataclasses.replace(plus, ema=0.9, epochs=3, batch_size=29)
whole = train(few, data)
try:
    train(few, data, "run", callbacks=[Break()])
except KeyboardInterrupt:
    resumed = train(few, data, "run", resume=True)
figures = [[row["loss"], row["val_loss"]] for x in (whole, resumed) for row in x.history]
weights = np.stack([flat(x.model.get_weights()) for x in (whole, resumed)])
statistic = flat([np.full(w.shape, "moving" in w.path) for w in whole.model.weights])
np.savez("averages.npz", start=flat(record.start), trained=trained, shown=shown, end=flat(end),
         statistic=statistic, figures=figures, weights=weights)
"""


@pytest.mark.parametrize(
    "where",
    [
        "tensorflow",
        pytest.param("jax", marks=pytest.mark.slow),
        pytest.param("jax, on the device", marks=pytest.mark.slow),
    ],
)
def test_averages_are_shown_saved_and_resumed(where, tiny_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_data_npz("data.npz", tiny_data)
    program = AVERAGES.replace("ON_DEVICE", str(where.endswith("device")))
    if where == "tensorflow":
        monkeypatch.setattr("fashion_cnn.training.loop.build_model", None)  # restored afterwards
        exec(program, {})  # noqa: S102 (ours)
    elif importlib.util.find_spec("jax"):
        run_on_jax(program)
    else:
        pytest.skip("needs JAX")
    arrays = np.load("averages.npz")
    average, expected = arrays["start"], []
    for step, weights in enumerate(arrays["trained"], 1):
        kept = min(0.3, step / (step + 9))
        average = kept * average + (1 - kept) * weights
        expected.append(np.where(arrays["statistic"], weights, average))
    np.testing.assert_allclose(arrays["shown"], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(arrays["end"], arrays["shown"][-1])
    assert np.abs(arrays["end"] - arrays["trained"][-1]).max() > 1e-4
    np.testing.assert_array_equal(*arrays["weights"])
    np.testing.assert_array_equal(*np.split(arrays["figures"], 2))


def test_early_stopping_restores_the_averages_of_the_best_epoch(tiny_data):
    recipe = dataclasses.replace(RECIPES["textbook"], epochs=1, batch_size=29, seed=3, ema=0.9)
    settings = {"patience": 1, "min_delta": 10, "restore_best_weights": True}
    stop = keras.callbacks.EarlyStopping("val_accuracy", mode="max", **settings)
    first = train(recipe, tiny_data)
    stopped = train(dataclasses.replace(recipe, epochs=4), tiny_data, callbacks=[stop])
    assert len(stopped.history) == 2
    for a, b in zip(first.model.get_weights(), stopped.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
