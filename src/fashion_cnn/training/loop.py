"""A recipe and data in; a trained model, its history and its run folder out."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fashion_cnn.data import load_data
from fashion_cnn.data.dataset import Data, as_data, channels_last
from fashion_cnn.files import write_atomically
from fashion_cnn.keras_setup import bfloat16_is_fast, keras
from fashion_cnn.machine import environment
from fashion_cnn.models import build_model
from fashion_cnn.models.forward import BATCH, compile_forward, inference_batch_size
from fashion_cnn.models.wrappers import flip_averaged, training_copy
from fashion_cnn.parallel.collectives import broadcast_from_first, process_count
from fashion_cnn.recipe import Recipe
from fashion_cnn.recipes import find_recipe
from fashion_cnn.run import STARTED, TRAINED, Run
from fashion_cnn.training.batches import InputTransform, chunks, epoch_plan, training_index
from fashion_cnn.training.checkpoint import (
    KEEP,
    completed_epochs,
    load_checkpoint,
    save_checkpoint,
)
from fashion_cnn.training.device_epoch import compile_epoch, fits_on_device
from fashion_cnn.training.distillation import teacher_sha256, training_targets
from fashion_cnn.training.features import (
    backbone_sha256,
    extract_features,
    feature_transform,
    has_frozen_layers,
    head_model,
)
from fashion_cnn.training.optimizers import make_optimizer
from fashion_cnn.training.steps import compile_steps

NOT_VALIDATED = {"val_loss": float("nan"), "val_accuracy": float("nan")}
SMALLEST_HALVED = 16  # normalisation has little to go by in the half of a smaller batch
Piece = tuple[int, Callable[[], tuple[float, int]]]  # images; sum of losses and right answers
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
    run: Run | None

    @property
    def seconds(self) -> float:
        """Time of all epochs, validation counted, building and loading not."""
        return sum(row["seconds"] for row in self.history)


def train(
    recipe: Recipe | str | Path,
    data: Data | Any,
    run: Run | Path | str | None = None,
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
        data: what `load_data` returns, or what it takes, or NumPy arrays `((x_train, y_train),
            (x_test, y_test))` with uint8 images.
        run: a folder for the model, the history and a checkpoint an epoch; nothing is written
            without one.
        model: a `keras.Model` of your own in place of the recipe's; it ends in softmax.
        scale: what your own model expects: `"0..255"` or `"0..1"`.
        callbacks: any `keras.callbacks.Callback`; what counts batches is called once a chunk
            (on a GPU by JAX once an epoch), and `on_test_…` never. They see the form for training
            (`training_copy`). A recipe with a head phase is two trainings to them, the first of the
            head; a callback that stops one of them ends both.
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
    if isinstance(data, str | Path):
        data = load_data(data, recipe.image_size)
    own_model = model is not None
    data, run = as_data(data), Run(run) if run else None
    if data.train_files and recipe.image_size and data.image_shape[:2] != (recipe.image_size,) * 2:
        raise ValueError(
            f"data: pictures of {data.image_shape[:2]}; the recipe's image_size is "
            f"{recipe.image_size}: give the folder, or load_data(folder, {recipe.image_size})"
        )
    targets = training_targets(recipe, data)
    keras.utils.set_random_seed(recipe.seed)
    if own_model:
        network = _with_scale(model, scale, data)
    elif scale is not None:
        raise ValueError("scale: only for a model of your own (`model=`)")
    else:
        classes = len(data.class_names)
        network = build_model(recipe.model, data.image_shape, classes, recipe.options)
    index = training_index(recipe, data)
    heard = keras.callbacks.CallbackList(list(callbacks), add_progbar=verbose > 0)
    phases = _phases(recipe, network, data, index, targets, own_model)
    if run and resume and not run.folder.is_dir():
        raise FileNotFoundError(f"{run}: nothing to resume here (no such folder)")
    if run:
        run.folder.mkdir(parents=True, exist_ok=True)
    with run.lock() if run else nullcontext():
        rows = _open_run(run, recipe, data, network, own_model, resume) if run else 0
        rows = int(broadcast_from_first(str(rows).encode()))
        history: list[dict[str, float]] = []
        for phase in phases:
            if rows > phase.last:  # and what comes next begins with what a checkpoint holds
                continue
            model = phase.prepare()
            if phase.first < rows:
                history = load_checkpoint(run, model)
                if run:
                    run.write_history(history)  # it may be a row behind the checkpoint
            stopped = _fit(recipe, data, index, phase, model, history, run, heard, verbose)
            heard.on_train_end({})  # which may bring this phase's best weights back
            if stopped:
                break
        if phase.whole and not own_model:
            network.set_weights(model.get_weights())
        network = inference_model(network, own_model, recipe.flip_average)
        if run:
            write_atomically(run.keras_path, network.save)
            run.write_checksums(*TRAINED)
    return Trained(network, history, run)


@dataclass(frozen=True)
class Phase:
    """Epochs that train the same network in the same way.

    Attributes:
        first: how many epochs are before it.
        last: how many epochs there have been at its end.
        whole: whether it trains the whole network, or its head on features.
        targets: what is to be answered to all training images: labels or probabilities.
        prepare: makes the compiled network.
        look: what the network gets of images; pixels without.
        held_out: makes what it is validated on, and the labels; None to leave it out.
    """

    first: int
    last: int
    whole: bool
    targets: np.ndarray
    prepare: Callable[[], Any]
    look: Callable[[], InputTransform] | None
    held_out: Callable[[], tuple[np.ndarray, np.ndarray]] | None


def _phases(
    recipe: Recipe,
    network: Any,
    data: Data,
    index: np.ndarray,
    targets: np.ndarray,
    own_model: bool,
) -> list[Phase]:
    """All epochs on the whole network; or the first ones on the head of a pretrained one alone."""
    steps = -(-len(index) // recipe.batch_size)
    split = recipe.validation
    first = _head_epochs(recipe, network, own_model)

    def whole() -> Any:
        model = network if own_model else training_copy(network, available_precision(recipe))
        rate = recipe.fine_tune_rate if first else recipe.learning_rate
        return compiled(model, recipe, rate, (recipe.epochs - first) * steps)

    def head() -> Any:
        return compiled(head_model(network), recipe, recipe.learning_rate, first * steps)

    def features() -> tuple[np.ndarray, np.ndarray]:
        if split == "test":
            return extract_features(network, data, "test"), data.test_labels
        chosen = data.validation_index
        return extract_features(network, data, "train")[chosen], data.train_labels[chosen]

    phases = []
    if first:
        look = partial(feature_transform, network, data, recipe.augment)
        seen = None if split == "none" else features
        phases.append(Phase(0, first, False, targets, head, look, seen))
    if first < recipe.epochs:
        held_out = None if split == "none" else partial(data.split, split)
        phases.append(Phase(first, recipe.epochs, True, targets, whole, None, held_out))
    return phases


def _head_epochs(recipe: Recipe, network: Any, own_model: bool) -> int:
    """How many epochs train the head alone: none where all of the network is to learn."""
    pretrained = not own_model and has_frozen_layers(network)
    return min(recipe.head_epochs, recipe.epochs) if pretrained else 0


def compiled(model: Any, recipe: Recipe, rate: float, steps: int) -> Any:
    """The model with the recipe's optimizer, for so many steps at this highest rate, and loss."""
    model.compile(
        optimizer=make_optimizer(replace(recipe, learning_rate=rate), steps),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=_smoothing(recipe)),
        metrics=["accuracy"],
    )
    return model


def _smoothing(recipe: Recipe) -> float:
    """How much the loss smooths; what a teacher says is learnt as it is, see `training_targets`."""
    return 0.0 if recipe.teacher else recipe.label_smoothing


def available_precision(recipe: Recipe) -> str:
    """What the recipe is trained in on this machine: its precision, or float32 without bfloat16."""
    return recipe.precision if bfloat16_is_fast() else "float32"


def _open_run(
    run: Run, recipe: Recipe, data: Data, network: Any, own_model: bool, resume: bool
) -> int:
    """Start a run's folder, or look into that of one; how many epochs are in its checkpoint."""
    begun = not run.is_unused
    if begun and not resume:
        raise ValueError(f"{run}: not empty; give --resume to go on with it, or another folder")
    epochs = 0
    pretrained = backbone_sha256(network) if _head_epochs(recipe, network, own_model) else None
    teacher = teacher_sha256(recipe)
    if begun:
        epochs = completed_epochs(run, recipe)
        _require_same_data(run, data)
        if run.environment().get("backbone_sha256") != pretrained:
            raise ValueError(f"{run}: was started from other weights; give --weights those again")
        if run.environment().get("teacher_sha256") != teacher:
            raise ValueError(f"{run}: {recipe.teacher} has changed since it was the teacher here")
    else:
        variables = [*network.variables] + 2 * [*network.trainable_variables]
        run.require_space(10_000_000 + (KEEP + 2) * sum(4 * math.prod(v.shape) for v in variables))
        source: dict[str, Any] = {"source": data.source, "location": data.location}
        source |= {"sha256": data.sha256, "class_names": data.class_names}
        about = {**environment(keras.backend.backend()), "own_model": own_model}
        about["processes"] = process_count()
        about["precision"] = "float32" if own_model else available_precision(recipe)
        about |= {"backbone_sha256": pretrained, "teacher_sha256": teacher}
        run.write_environment({**about, "data": source})
        run.write_recipe(recipe.to_json())  # last: now there is a run to resume
    run.write_checksums(*STARTED)
    return epochs


def _require_same_data(run: Run, data: Data) -> None:
    then = run.data_source()["sha256"]
    differ = [name for name in {**then, **data.sha256} if then.get(name) != data.sha256.get(name)]
    if differ:
        raise ValueError(
            f"{run}: was started on other data ({', '.join(differ)} differ); resume with the data "
            "of its start"
        )


def inference_model(network: Any, own_model: bool, flip_average: bool) -> Any:
    """The network that is saved: float32, with what was learnt, and without an optimizer."""
    if own_model:  # whose optimizer's state is the checkpoint's
        network = keras.Model(network.inputs[0], network.outputs[0], name=network.name)
    return flip_averaged(network) if flip_average else network


def _fit(
    recipe: Recipe,
    data: Data,
    index: np.ndarray,
    phase: Phase,
    model: Any,
    history: list[dict[str, float]],
    run: Run | None,
    heard: Any,
    verbose: int,
) -> bool:
    """Train from the end of `history` to the end of a phase; an epoch adds a row and a checkpoint.

    Returns:
        Whether a callback stopped it.
    """
    look = phase.look() if phase.look else None
    held_out = phase.held_out() if phase.held_out else None
    pieces = _pieces(recipe, data, index, model, phase.targets, look)
    forward, logs = compile_forward(model), dict[str, float]()
    heard.set_model(model)
    batches = -(-len(index) // recipe.batch_size)
    heard.set_params({"verbose": verbose, "epochs": phase.last, "steps": batches})
    model.stop_training = False
    heard.on_train_begin()
    for epoch in range(len(history), phase.last):
        heard.on_epoch_begin(epoch)
        began, seen, loss, right = time.perf_counter(), 0, 0.0, 0
        for count, work in pieces(epoch):
            heard.on_train_batch_begin(seen // recipe.batch_size)
            more_loss, more_right = work()
            seen, loss, right = seen + count, loss + more_loss, right + more_right
            if not math.isfinite(loss):
                raise FloatingPointError(
                    f"epoch {epoch + 1}: the loss is {loss}; the steps are too large: try "
                    f"--learning-rate {recipe.learning_rate / 10:g}"
                )
            logs = {"loss": loss / seen, "accuracy": right / seen}
            heard.on_train_batch_end(-(-seen // recipe.batch_size) - 1, logs)
            if model.stop_training:
                return True
        if held_out:
            logs |= _validate(forward, *held_out, _smoothing(recipe))
        rate = float(model.optimizer.learning_rate)
        seconds = round(time.perf_counter() - began, 3)
        row = {"epoch": epoch + 1, **NOT_VALIDATED, **logs}
        history.append({**row, "learning_rate": rate, "seconds": seconds})
        if run:
            save_checkpoint(run, model, history)
            run.write_history(history)
        heard.on_epoch_end(epoch, logs)
        if model.stop_training:
            return True
    return False


def _pieces(
    recipe: Recipe,
    data: Data,
    index: np.ndarray,
    model: Any,
    targets: np.ndarray,
    look: InputTransform | None,
) -> Callable[[int], Iterator[Piece]]:
    """What an epoch is made of: how many images each piece trains on, and what does it."""
    weights, size = recipe_class_weights(recipe, data, index), recipe.batch_size
    if not look and fits_on_device(data.train_images):
        images = channels_last(data.train_images)
        whole = compile_epoch(model, images, targets, recipe, len(index), weights)

        def at_once(epoch: int) -> Iterator[Piece]:
            yield len(index), partial(whole, *epoch_plan(recipe, epoch, index, len(images)))

        return at_once
    smallest = len(index) % size or size
    halves = smallest >= (SMALLEST_HALVED if _normalises(model) else 2)
    steps = compile_steps(model, size, halves, weights, soft=targets.ndim == 2)

    def by_chunks(epoch: int) -> Iterator[Piece]:
        all_chunks = chunks(recipe, data, epoch, index, _chunk(recipe, model), look, targets)
        for images, labels in all_chunks:
            yield len(labels), partial(steps, images, labels)

    return by_chunks


def _normalises(model: Any) -> bool:
    """Whether a network goes by the statistics of its batches."""
    kind = keras.layers.BatchNormalization
    return any(isinstance(layer, kind) and layer.trainable for layer in model.layers)


def _chunk(recipe: Recipe, model: Any) -> int:
    """How many images are given to the compiled steps at a time."""
    share = inference_batch_size(tuple(model.inputs[0].shape[1:])) / BATCH
    return max(1, round(share * IMAGES_PER_CHUNK) // recipe.batch_size) * recipe.batch_size


def recipe_class_weights(recipe: Recipe, data: Data, index: np.ndarray) -> np.ndarray | None:
    """The class weights of a recipe that has some, for the images that it trains on."""
    if not recipe.class_weights:
        return None
    return class_weights(data.train_labels[index], len(data.class_names))


def class_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """What each class must count so that all count alike, float32 (classes,); 1 on average."""
    counts = np.bincount(labels, minlength=classes)
    there = np.count_nonzero(counts)
    return (len(labels) / (there * np.maximum(counts, 1))).astype(np.float32)


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
