"""Exponential moving averages of the weights: a compiled model in, which steps then average.

The averages are variables of the optimizer, so checkpoints contain them. While an epoch runs, the
model holds the weights that are trained; `swap_averages` exchanges them for the averages, which are
validated, shown to callbacks and saved.
"""

from typing import Any

from fashion_cnn.keras_setup import keras


def add_averages(model: Any, decay: float) -> None:
    """Have the training steps of a compiled model average its weights.

    Keras's own `use_ema` has no warm-up of the decay, and leaves out the statistics of batch
    normalization.

    Args:
        model: a compiled `keras.Model`, with the weights that the averages start from.
        decay: share of the average that a step keeps, 0..1; after t steps at most t / (t + 9),
            so that the first weights are soon forgotten.
    """
    optimizer = model.optimizer
    optimizer.build(model.trainable_variables)
    optimizer.average_decay = decay
    weights = _averaged_weights(model)
    optimizer.averages = [optimizer.add_variable_from_reference(w, "average") for w in weights]
    for weight, average in zip(weights, optimizer.averages, strict=True):
        average.assign(weight)


def is_averaged(model: Any) -> bool:
    """Whether `add_averages` was called for the model, as it is compiled now."""
    return hasattr(model.optimizer, "averages")


def update_averages(model: Any) -> None:
    """Move the averages towards the weights, after a step of the optimizer."""
    optimizer = model.optimizer
    step = keras.ops.cast(optimizer.iterations, "float32")
    kept = keras.ops.minimum(optimizer.average_decay, step / (step + 9))
    for weight, average in zip(_averaged_weights(model), optimizer.averages, strict=True):
        average.assign(average + keras.ops.cast(1 - kept, average.dtype) * (weight - average))


def swap_averages(model: Any) -> None:
    """Exchange the weights for their averages, or back; nothing happens in a model without."""
    if not is_averaged(model):
        return
    for weight, average in zip(_averaged_weights(model), model.optimizer.averages, strict=True):
        value = keras.ops.copy(weight)
        weight.assign(average)
        average.assign(value)


def _averaged_weights(model: Any) -> list[Any]:
    """The weights that training changes, statistics of batch normalization included."""
    weights = [w for layer in model.layers if layer.trainable for w in layer.weights]
    return [w for w in weights if keras.backend.is_float_dtype(w.dtype)]
