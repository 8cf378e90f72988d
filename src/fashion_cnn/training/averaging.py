"""Exponential moving averages of the weights: a compiled model in, which steps then average.

The averages are variables of the optimizer, so checkpoints contain them. During an epoch's steps
the model holds the weights that are trained. At all other times it holds their averages, which are
validated, shown to callbacks and saved, and the optimizer keeps the weights.
"""

from typing import Any

from fashion_cnn.keras_setup import keras


def add_averages(model: Any, decay: float) -> None:
    """Have the training steps of a compiled model average its weights, from what they are now on.

    After t steps the decay is at most t / (t + 9). With Keras's own `use_ema`, whose decay is
    constant, a long average is still that of the first weights when a short training ends
    (docs/experiments.md). Statistics of batch normalization are averages already.

    Args:
        model: a compiled `keras.Model`.
        decay: the share of the average that a step keeps, 0..1.
    """
    optimizer = model.optimizer
    optimizer.build(model.trainable_variables)
    optimizer.average_decay = decay
    optimizer.averages = optimizer.add_optimizer_variables(model.trainable_variables, "average")
    for weight, average in _pairs(model):
        average.assign(weight)


def update_averages(model: Any) -> None:
    """Move the averages, if the model has any, towards the weights after a step."""
    for weight, average in _pairs(model):
        step = keras.ops.cast(model.optimizer.iterations, average.dtype)
        kept = keras.ops.minimum(model.optimizer.average_decay, step / (step + 9))
        average.assign(kept * average + (1 - kept) * weight)


def swap_averages(model: Any) -> None:
    """Exchange the weights for their averages, or back; without averages nothing happens."""
    for weight, average in _pairs(model):
        value = keras.ops.copy(weight)
        weight.assign(average)
        average.assign(value)


def _pairs(model: Any) -> list[tuple[Any, Any]]:
    """Each trainable weight and its average; empty for a model without averages."""
    averages = getattr(model.optimizer, "averages", None)
    return list(zip(model.trainable_variables, averages, strict=True)) if averages else []
