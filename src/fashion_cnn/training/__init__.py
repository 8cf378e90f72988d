"""A recipe and data in; a trained model, its history and its run folder out."""

import math
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fashion_cnn.data.dataset import Data, as_data, channels_last
from fashion_cnn.framework import bfloat16_is_fast, keras, silence
from fashion_cnn.models import build_model
from fashion_cnn.models.forms import for_training, mirrored
from fashion_cnn.models.forward import make_forward
from fashion_cnn.recipes import Recipe, find_recipe
from fashion_cnn.run import (
    environment,
    held,
    is_used,
    read_source,
    require_space,
    seal,
    write_history,
    write_json,
    write_text,
    write_whole,
)
from fashion_cnn.training.batches import chunks, training_index
from fashion_cnn.training.checkpoint import KEEP, load_checkpoint, save_checkpoint
from fashion_cnn.training.optimizers import make_optimizer
from fashion_cnn.training.steps import make_steps

BEGUN = ("recipe.json", "environment.json")
NOT_VALIDATED = {"val_loss": float("nan"), "val_accuracy": float("nan")}
SMALLEST_HALVED = 16  # normalisation has little to go by in the half of a smaller batch
IMAGES_PER_CHUNK = 1024  # at most a second on 2 cores, so that Ctrl-C is heard


@dataclass(frozen=True)
class Trained:
    """What `train` returns.

    Attributes:
        model: an uncompiled float32 `keras.Model` of Keras's own layers, raw pixels in,
            probabilities out.
        history: one dictionary an epoch, keys as in `history.csv`.
        run: the run folder, if one was asked for.
    """

    model: Any
    history: list[dict[str, float]]
    run: Path | None

    @property
    def seconds(self) -> float:
        """Time of all epochs, validation counted, building and loading not."""
        return sum(row["seconds"] for row in self.history)


def train(
    recipe: Recipe | str | Path,
    data: Data | Any,
    run: Path | str | None = None,
    *,
    model: Any = None,
    scale: str | None = None,
    callbacks: Sequence[Any] = (),
    resume: bool = False,
    verbose: int = 0,
) -> Trained:
    """Train a network by a recipe.

    Args:
        recipe: a `Recipe`, the name of one, or the path of a `recipe.json`.
        data: what `load_data` returns, or NumPy arrays `((x_train, y_train), (x_test, y_test))`
            with uint8 images.
        run: a folder for the model, the history and a checkpoint an epoch; nothing is written
            without one.
        model: a `keras.Model` of your own in place of the recipe's; it ends in softmax.
        scale: what your own model expects: `"0..255"` or `"0..1"`.
        callbacks: any `keras.callbacks.Callback`; what counts batches is called once a chunk,
            and `on_test_…` never. They see the form for training (`models/forms.py`).
        resume: go on from the run's newest checkpoint; on the same machine the end is that of a run
            never broken off, bit for bit.
        verbose: Keras's own progress: 0 nothing, 1 bars, 2 a line an epoch.

    Returns:
        `Trained`.

    Raises:
        ValueError: something given does not fit, or another process trains in `run`; said before
            any training.
        OSError: `run` cannot be written, or the disk is full.
        FloatingPointError: the loss is no number any more; the checkpoints before it stay.
    """
    recipe = recipe if isinstance(recipe, Recipe) else find_recipe(str(recipe))
    own_model = model is not None
    data, run = as_data(data), Path(run) if run else None
    keras.utils.set_random_seed(recipe.seed)
    if own_model:
        model = network = _with_scale(model, scale, data)
    elif scale is not None:
        raise ValueError("scale: only for a model of your own (`model=`)")
    else:
        classes = len(data.class_names)
        network = build_model(recipe.model, data.image_shape, classes, recipe.options)
        model = for_training(network, precision_here(recipe))
    index = training_index(recipe, data)
    steps = -(-len(index) // recipe.batch_size)
    model.compile(
        optimizer=make_optimizer(recipe, recipe.epochs * steps),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing),
        metrics=["accuracy"],
    )
    if run and resume and not run.is_dir():
        raise FileNotFoundError(f"{run}: nothing to resume here (no such folder)")
    if run:
        run.mkdir(parents=True, exist_ok=True)
    with held(run) if run else nullcontext():
        history = _open_run(run, recipe, data, model, own_model, resume) if run else []
        _fit(recipe, data, index, model, history, run, callbacks, verbose)
        network = _to_keep(network, model, recipe.mirror)
        if run:
            with silence(), suppress(ImportError):
                import tensorflow  # noqa: F401 (Keras's saving does on JAX too, and it greets)
            write_whole(run / "model.keras", network.save)
            seal(run, *BEGUN, "history.csv", "model.keras", "checkpoints/*.npz")
    return Trained(network, history, run)


def precision_here(recipe: Recipe) -> str:
    """What the recipe is trained in on this machine: its precision, or float32 without bfloat16."""
    return recipe.precision if bfloat16_is_fast() else "float32"


def _open_run(
    run: Path, recipe: Recipe, data: Data, model: Any, own_model: bool, resume: bool
) -> list[dict[str, float]]:
    """Start a run's folder, or load the newest checkpoint of one and return its history."""
    begun = is_used(run)
    if begun and not resume:
        raise ValueError(f"{run}: not empty; give --resume to go on with it, or another folder")
    history = []
    if begun:
        history = load_checkpoint(run, recipe, model)
        _require_same_data(run, data)
        if history:
            write_history(run, history)  # it may be a row behind the checkpoint
    else:
        variables = [*model.variables, *model.trainable_variables, *model.trainable_variables]
        require_space(run, 10_000_000 + (KEEP + 2) * sum(4 * math.prod(v.shape) for v in variables))
        source: dict[str, Any] = {"source": data.source, "found": data.found}
        source |= {"sha256": data.sha256, "class_names": data.class_names}
        about = {**environment(keras.backend.backend()), "own_model": own_model}
        about["precision"] = "float32" if own_model else precision_here(recipe)
        write_json(run / "environment.json", {**about, "data": source})
        write_text(run / "recipe.json", recipe.to_json())  # last: now there is a run to resume
    seal(run, *BEGUN)
    return history


def _require_same_data(run: Path, data: Data) -> None:
    then = read_source(run)["sha256"]
    differ = [name for name in {**then, **data.sha256} if then.get(name) != data.sha256.get(name)]
    if differ:
        raise ValueError(
            f"{run}: was started on other data ({', '.join(differ)} differ); resume with the data "
            "of its start"
        )


def _to_keep(network: Any, model: Any, mirror: bool) -> Any:
    """The network that is saved: its own form with what was learnt, float32."""
    if network is model:  # without the optimizer, whose state is the checkpoint's
        network = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    else:
        network.set_weights(model.get_weights())
    return mirrored(network) if mirror else network


def _fit(
    recipe: Recipe,
    data: Data,
    index: np.ndarray,
    model: Any,
    history: list[dict[str, float]],
    run: Path | None,
    callbacks: Sequence[Any],
    verbose: int,
) -> None:
    """Train from the end of `history` to the last epoch; each adds a row and a checkpoint."""
    size = max(1, IMAGES_PER_CHUNK // recipe.batch_size) * recipe.batch_size
    smallest = len(index) % recipe.batch_size or recipe.batch_size
    steps = make_steps(model, recipe.batch_size, halves=smallest >= SMALLEST_HALVED)
    forward = make_forward(model)
    heard = keras.callbacks.CallbackList(
        list(callbacks),
        model=model,
        add_progbar=verbose > 0,
        verbose=verbose,
        epochs=recipe.epochs,
        steps=-(-len(index) // recipe.batch_size),
    )
    model.stop_training, logs = False, {}
    heard.on_train_begin()
    for epoch in range(len(history), recipe.epochs):
        heard.on_epoch_begin(epoch)
        began, seen, loss, right = time.perf_counter(), 0, 0.0, 0
        for images, labels in chunks(recipe, data, epoch, index, size):
            heard.on_train_batch_begin(seen // recipe.batch_size)
            more_loss, more_right = steps(images, labels)
            seen, loss, right = seen + len(labels), loss + more_loss, right + more_right
            if not math.isfinite(loss):
                raise FloatingPointError(
                    f"epoch {epoch + 1}: the loss is {loss}; the steps are too large: try "
                    f"--learning-rate {recipe.learning_rate / 10:g}"
                )
            logs = {"loss": loss / seen, "accuracy": right / seen}
            heard.on_train_batch_end(-(-seen // recipe.batch_size) - 1, logs)
            if model.stop_training:
                heard.on_train_end(logs)
                return
        if recipe.validation != "none":
            logs |= _validate(forward, *data.split(recipe.validation), recipe.label_smoothing)
        rate = float(model.optimizer.learning_rate)
        seconds = round(time.perf_counter() - began, 3)
        row = {"epoch": epoch + 1, **NOT_VALIDATED, **logs}
        history.append({**row, "learning_rate": rate, "seconds": seconds})
        if run:
            save_checkpoint(run, model, history)
            write_history(run, history)
        heard.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    heard.on_train_end(logs)


def _validate(
    forward: Any, images: np.ndarray, labels: np.ndarray, smoothing: float
) -> dict[str, float]:
    """Cross-entropy, label smoothing included, penalties not; and accuracy."""
    answers = forward(channels_last(images))
    logs = np.log(np.maximum(answers, np.finfo(np.float32).tiny), dtype=np.float64)
    of_truth = logs[np.arange(len(labels)), labels]
    loss = (smoothing - 1) * of_truth.mean() - smoothing * logs.mean()
    return {"val_loss": float(loss), "val_accuracy": float((answers.argmax(1) == labels).mean())}


def _with_scale(model: Any, scale: str | None, data: Data) -> Any:
    """The user's model behind an input of raw pixels; refuses what cannot be right."""
    if scale not in ("0..255", "0..1"):
        raise ValueError(
            f"scale: got {scale!r}; expected '0..255' or '0..1', the pixels that your model takes "
            "(the wrong one trains without an error, and badly)"
        )
    pixels = keras.Input(data.image_shape, dtype="uint8", name="pixels")
    scaled = keras.layers.Rescaling(1 / 255 if scale == "0..1" else 1.0)(pixels)
    whole = keras.Model(pixels, model(scaled))
    classes = len(data.class_names)
    if whole.output_shape != (None, classes):
        raise ValueError(f"model: output {whole.output_shape}; expected (None, {classes})")
    sums = np.sum(whole.predict(channels_last(data.train_images[:2]), verbose=0), axis=-1)
    if not np.allclose(sums, 1, atol=1e-3):
        raise ValueError(
            f"model: outputs add up to {sums}; expected probabilities (end in softmax)"
        )
    return whole
