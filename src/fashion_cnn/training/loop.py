"""The training loop: a recipe and data in; a trained model, its history and its run folder out."""

import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fashion_cnn.data import load_data
from fashion_cnn.data.dataset import Data, as_data, channels_last
from fashion_cnn.files import write_atomically
from fashion_cnn.keras_setup import keras
from fashion_cnn.models import build_model
from fashion_cnn.models.forward import compile_forward
from fashion_cnn.models.wrappers import flip_averaged
from fashion_cnn.parallel.collectives import broadcast_from_first
from fashion_cnn.recipe import Recipe, fit_to_data, with_settings
from fashion_cnn.recipes import find_recipe, is_recipe_file
from fashion_cnn.run import TRAINED, Run
from fashion_cnn.training.averaging import swap_averages
from fashion_cnn.training.batches import training_index
from fashion_cnn.training.checkpoint import (
    checkpoint_interval,
    load_checkpoint,
    save_checkpoint,
)
from fashion_cnn.training.distillation import training_targets
from fashion_cnn.training.own_model import with_raw_pixels
from fashion_cnn.training.phases import Phase, loss_smoothing, make_phases
from fashion_cnn.training.start import start_or_resume
from fashion_cnn.training.steps import Epochs, make_epochs

Row = dict[str, float]
NOT_VALIDATED = {"val_loss": float("nan"), "val_accuracy": float("nan")}


@dataclass(frozen=True)
class Trained:
    """What `train` returns.

    Attributes:
        model: a float32 `keras.Model` of Keras's own layers, raw pixels in, probabilities out;
            compiled for `model.evaluate(images, labels)`. For an ONNX file train with a `run`; the
            command `fashion-cnn train --run RUN --resume` then evaluates and exports it.
        history: one dictionary per epoch: `epoch`, `loss`, `accuracy` (0..1), `val_loss`,
            `val_accuracy`, `learning_rate` and `seconds`.
        run: the path of the run folder; None if none was requested.
    """

    model: Any
    history: list[dict[str, float]]
    run: Path | None

    @property
    def seconds(self) -> float:
        """Seconds of all epochs with their validation, without building and loading."""
        return sum(row["seconds"] for row in self.history)


def train(
    recipe: Recipe | str | Path,
    data: Data | Any,
    run: Run | Path | str | None = None,
    *,
    epochs: int | None = None,
    model: Any = None,
    scale: str | None = None,
    callbacks: Sequence[Any] = (),
    resume: bool = False,
    verbose: int = 0,
) -> Trained:
    """Train a network by a recipe.

    Args:
        recipe: the name of a recipe, whose batch size, learning rate and epochs are adapted where
            images are few; or a `Recipe`, or the path of a `recipe.json`, taken as it is.
        data: what `load_data` returns, or a source that it takes, or NumPy arrays `((x_train,
            y_train), (x_test, y_test))`: images uint8 (n, height, width[, 1 or 3]), labels (n,),
            integers or names. The model's outputs are in the sorted order of the labels.
        run: a folder for the model, the history and one checkpoint per epoch (of a large network
            at most one in ten seconds). Default: nothing is written.
        epochs: passes over the training images. Default: those of the recipe.
        model: a `keras.Model` of your own in place of the recipe's; it ends in softmax.
        scale: the pixels that your own model expects: `"0..255"` or `"0..1"`.
        callbacks: any `keras.callbacks.Callback`. Batch callbacks are called once per chunk of many
            steps (once per epoch on a GPU by JAX), `on_test_…` never. They see the model that is
            being trained, not the one that is returned; averaged weights except during an epoch's
            steps. A recipe with a head phase is two trainings to them, the first of the head; a
            callback that stops one of them ends both.
        resume: continue from the run's newest checkpoint; on the same machine the result is that
            of an uninterrupted run, bit for bit. With a constant learning rate there may be more
            epochs than at the start. Default: False.
        verbose: Keras's own progress: 0 nothing, 1 bars, 2 a line per epoch. Default: 0.

    Returns:
        A `Trained`: the model, its history and its run folder.

    Raises:
        ValueError: an argument does not fit, or another process trains in `run`; raised before
            any training.
        FileNotFoundError: the data, or the run to resume, does not exist.
        OSError: `run` cannot be written, or the disk is full.
        FloatingPointError: the loss is not finite; earlier checkpoints stay.
    """
    recipe, data = _resolve(recipe, data, epochs)
    run, own_model = Run(run) if run else None, model is not None
    targets = training_targets(recipe, data)
    keras.utils.set_random_seed(recipe.seed)
    network = _build_network(recipe, data, model, scale)
    index = training_index(recipe, data)
    phases = make_phases(recipe, data, network, index, own_model)
    params = {"verbose": verbose, "epochs": recipe.epochs, "steps": None}
    callback_list = keras.callbacks.CallbackList(list(callbacks), False, verbose > 0, **params)
    if run and resume and not run.folder.is_dir():
        raise FileNotFoundError(f"{run}: nothing to resume here (no such folder)")
    if run:
        run.folder.mkdir(parents=True, exist_ok=True)
    with run.lock() if run else nullcontext():
        done = start_or_resume(run, recipe, data, network, own_model, resume) if run else 0
        done = int(broadcast_from_first(str(done).encode()))
        history, confidences = list[Row](), np.zeros(len(data.train_labels), np.float32)
        for phase in phases:
            if done > phase.end:  # at its very end, the next phase still needs its weights
                continue
            model = phase.compile_model()
            if phase.start < done:
                history = load_checkpoint(run, model, confidences)
                if run:
                    run.write_history(history)  # it may be behind or ahead of the checkpoint
            transform = phase.make_transform() if phase.make_transform else None
            phase_epochs = make_epochs(recipe, data, index, model, targets, confidences, transform)
            stopped = _train_phase(recipe, phase, model, phase_epochs, history, run, callback_list)
            callback_list.on_train_end({})  # may restore this phase's best weights
            if stopped:
                break
        if not phase.trains_head and not own_model:
            network.set_weights(model.get_weights())
        network = _inference_model(network, own_model, recipe.flip_average)
        if run:
            write_atomically(run.keras_path, network.save)
            run.write_checksums(*TRAINED)
    return Trained(_compile_for_evaluation(network), history, run.folder if run else None)


def _resolve(recipe: Recipe | str | Path, data: Any, epochs: int | None) -> tuple[Recipe, Data]:
    """The `Recipe` and the `Data` that were named; a recipe given by name is fitted to the data."""
    is_name = not isinstance(recipe, Recipe) and not is_recipe_file(str(recipe))
    recipe = recipe if isinstance(recipe, Recipe) else find_recipe(str(recipe))
    data = load_data(data, recipe.image_size) if isinstance(data, str | Path) else as_data(data)
    if data.train_files and recipe.image_size and data.image_shape[:2] != (recipe.image_size,) * 2:
        raise ValueError(
            f"data: pictures of {data.image_shape[:2]}; the recipe's image_size is "
            f"{recipe.image_size}: give the folder, or load_data(folder, {recipe.image_size})"
        )
    recipe = fit_to_data(recipe, data) if is_name else recipe
    return recipe if epochs is None else with_settings(recipe, {"epochs": str(epochs)}), data


def _build_network(recipe: Recipe, data: Data, model: Any, scale: str | None) -> Any:
    """The recipe's network, or the user's own model behind an input of raw pixels."""
    if model is not None:
        return with_raw_pixels(model, scale, data)
    if scale is not None:
        raise ValueError("scale: only for a model of your own (`model=`)")
    return build_model(recipe.model, data.image_shape, len(data.class_names), recipe.options)


def _train_phase(
    recipe: Recipe,
    phase: Phase,
    model: Any,
    epochs: Epochs,
    history: list[dict[str, float]],
    run: Run | None,
    callbacks: Any,
) -> bool:
    """Train from the end of `history` to the end of a phase; whether a callback stopped it.

    Each epoch appends a row to `history` and writes a checkpoint, unless that is large and the one
    before was written seconds ago.
    """
    validation = phase.make_validation() if phase.make_validation else None
    forward = compile_forward(model)
    confidences = epochs.confidences if recipe.skip_easy else None
    callbacks.set_model(model)
    callbacks.set_params({**callbacks.params, **_step_counts(epochs, len(history), phase.end)})
    model.stop_training = False
    next_checkpoint = 0.0
    callbacks.on_train_begin()
    for epoch in range(len(history), phase.end):
        callbacks.set_params({**callbacks.params, **_step_counts(epochs, epoch, phase.end)})
        callbacks.on_epoch_begin(epoch)
        start = time.perf_counter()
        swap_averages(model)
        logs = _train_epoch(recipe, epoch, model, epochs, callbacks)
        swap_averages(model)
        if model.stop_training:
            return True
        if validation:
            logs |= _validate(forward, *validation, loss_smoothing(recipe))
        learning_rate = float(model.optimizer.learning_rate)
        seconds = round(time.perf_counter() - start, 3)
        row = {"epoch": epoch + 1, **NOT_VALIDATED, **logs}
        history.append({**row, "learning_rate": learning_rate, "seconds": seconds})
        is_due = epoch + 1 == phase.end or time.monotonic() >= next_checkpoint
        if run and is_due:
            next_checkpoint = time.monotonic() + checkpoint_interval(model)
            save_checkpoint(run, model, history, confidences)
        if run:
            run.write_history(history)
        callbacks.on_epoch_end(epoch, logs)
        if model.stop_training:
            if run and not is_due:
                save_checkpoint(run, model, history, confidences)
            return True
    return False


def _step_counts(epochs: Epochs, epoch: int, end: int) -> dict[str, int]:
    """What callbacks learn of an epoch: its steps, and those of all later ones, of `end` epochs."""
    later = epochs.steps(range(epoch + 1, end))
    return {"epochs": end, "steps": epochs.steps([epoch]), "later_steps": later}


def _train_epoch(
    recipe: Recipe, epoch: int, model: Any, epochs: Epochs, callbacks: Any
) -> dict[str, float]:
    """Train the chunks of an epoch, or those up to where a callback stops; loss and accuracy."""
    images, loss, correct, logs = 0, 0.0, 0, dict[str, float]()
    for chunk in epochs.chunks(epoch):
        callbacks.on_train_batch_begin(images // recipe.batch_size)
        chunk_loss, chunk_correct = chunk.train()
        images += chunk.images
        loss, correct = loss + chunk_loss, correct + chunk_correct
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"epoch {epoch + 1}: the loss is {loss}; the learning rate is probably too "
                f"high: try --learning-rate {recipe.learning_rate / 10:g}"
            )
        logs = {"loss": loss / images, "accuracy": correct / images}
        callbacks.on_train_batch_end(-(-images // recipe.batch_size) - 1, logs)
        if model.stop_training:
            break
    return logs


def _validate(
    forward: Any, images: np.ndarray, labels: np.ndarray, smoothing: float
) -> dict[str, float]:
    """Cross-entropy with label smoothing, without weight penalties; and accuracy."""
    probabilities = forward(channels_last(images))
    tiny = np.finfo(np.float32).tiny
    log_probabilities = np.log(np.maximum(probabilities, tiny), dtype=np.float64)
    of_label = log_probabilities[np.arange(len(labels)), labels]
    loss = (smoothing - 1) * of_label.mean() - smoothing * log_probabilities.mean()
    accuracy = (probabilities.argmax(1) == labels).mean()
    return {"val_loss": float(loss), "val_accuracy": float(accuracy)}


def _inference_model(network: Any, own_model: bool, flip_average: bool) -> Any:
    """The network that is saved: float32, trained weights, without an optimizer."""
    if own_model:  # its optimizer's state is in the checkpoints
        network = keras.Model(network.inputs[0], network.outputs[0], name=network.name)
    return flip_averaged(network) if flip_average else network


def _compile_for_evaluation(network: Any) -> Any:
    """The network with loss and metric of integer labels, for Keras's `evaluate`."""
    # this optimizer has no state that saving the model could lose
    network.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return network
