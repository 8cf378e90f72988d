"""Optimizers by name: a recipe in, a Keras optimizer out.

Keras spends six to fourteen operations on a variable. The fused optimizers compute the same
formulas as one TensorFlow kernel a variable, which saves a tenth of a step of a small network
(docs/experiments.md).
"""

import math
import re
from typing import Any

from fashion_cnn.keras_setup import keras
from fashion_cnn.recipe import Recipe

BIASES = frozenset({"bias", "beta", "gamma"})  # variables without weight decay
SAM_EPSILON = 1e-12
# coefficients that drive all singular values to about 1 in few steps
NEWTON_SCHULZ, NEWTON_SCHULZ_STEPS = (3.4445, -4.7750, 2.0315), 5


def make_optimizer(recipe: Recipe, steps: int) -> Any:
    """The optimizer of a recipe for so many steps, as the fastest implementation there is."""
    rate: Any = recipe.learning_rate
    if recipe.schedule != "constant":
        schedule = {"triangle": Triangle, "cosine": Cosine}[recipe.schedule]
        rate = schedule(rate, round(recipe.warmup * steps), steps)
    kind, settings = _optimizer_class(recipe), {}
    if recipe.optimizer != "adam":
        settings = {"momentum": float(recipe.momentum), "nesterov": True}
    if recipe.bias_rate != 1:
        kind = type(kind.__name__, (_BiasRate, kind), {"bias_rate": recipe.bias_rate})
    optimizer = kind(rate, weight_decay=recipe.weight_decay or None, **settings)
    optimizer.exclude_from_weight_decay(var_names=sorted(BIASES))
    optimizer.sam = recipe.sam
    return optimizer


def _optimizer_class(recipe: Recipe) -> Any:
    fused = keras.backend.backend() == "tensorflow"
    if recipe.optimizer == "adam":
        return FusedAdam if fused else keras.optimizers.Adam
    if recipe.optimizer == "muon":
        return Muon
    return FusedSGD if fused and recipe.momentum else keras.optimizers.SGD


class Triangle(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up to `peak` at step `warmup`, then linear decay to 0 at step `steps`."""

    def __init__(self, peak: float, warmup: int, steps: int) -> None:
        super().__init__()
        self.peak, self.warmup, self.steps = peak, warmup, steps

    def __call__(self, step: Any) -> Any:
        """The learning rate of a step, counted from 0, at the middle of the step."""
        step = keras.ops.cast(step, "float32") + 0.5
        up = step / self.warmup if self.warmup else keras.ops.ones_like(step)
        down = keras.ops.clip((self.steps - step) / (self.steps - self.warmup), 0.0, 1.0)
        return self.peak * keras.ops.minimum(up, self.decay(down))

    def decay(self, share: Any) -> Any:
        """The learning rate relative to its peak, from the share of the decay that is left."""
        return share

    def get_config(self) -> dict[str, Any]:
        """The arguments of `__init__`."""
        return {"peak": self.peak, "warmup": self.warmup, "steps": self.steps}


class Cosine(Triangle):
    """`Triangle`, but the decay is half a cosine (arXiv:1608.03983)."""

    def decay(self, share: Any) -> Any:
        """The learning rate relative to its peak, from the share of the decay that is left."""
        return (1 - keras.ops.cos(math.pi * share)) / 2


class _BiasRate:
    """Gives biases and normalization layers a learning rate of their own."""

    bias_rate = 1.0

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable in place."""
        # a Keras variable has a path; TensorFlow's has it as its name, with a suffix
        names = re.split("[/:]", variable.path if hasattr(variable, "path") else variable.name)
        scale = self.bias_rate if BIASES.intersection(names) else 1.0
        super().update_step(gradient, variable, scale * learning_rate)  # type: ignore[misc]


class Muon(keras.optimizers.SGD):
    """SGD with momentum whose updates of convolution kernels are orthogonalized.

    The kernel is a matrix (height x width x input channels, output channels); see
    kellerjordan.github.io/posts/muon. Other weights, and depthwise kernels, take Keras's steps.
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable in place."""
        if len(variable.shape) != 4 or variable.shape[-1] == 1:
            super().update_step(gradient, variable, learning_rate)
            return
        step = gradient
        if self.momentum:
            average = self.momentums[self._get_variable_index(variable)]
            self.assign(average, self.momentum * average + gradient)
            step = gradient + self.momentum * average
        matrix = keras.ops.reshape(step, (-1, variable.shape[-1]))
        rows, columns = matrix.shape
        scale = learning_rate * max(1.0, columns / rows) ** 0.5
        step = keras.ops.reshape(_orthogonal(matrix), variable.shape)
        self.assign_sub(variable, scale * step)


def _orthogonal(matrix: Any) -> Any:
    """About the nearest matrix with orthonormal rows or columns, by Newton-Schulz iterations."""
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = keras.ops.transpose(matrix) if is_tall else matrix
    x = x / (keras.ops.sqrt(keras.ops.sum(x * x)) + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        a, b, c = NEWTON_SCHULZ
        gram = x @ keras.ops.transpose(x)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return keras.ops.transpose(x) if is_tall else x


class FusedAdam(keras.optimizers.Adam):
    """Keras's Adam (arXiv:1412.6980) as one kernel a variable."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable in place."""
        import tensorflow as tf

        step = tf.cast(self.iterations + 1, variable.dtype)
        index = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(tf.cast(self.beta_1, variable.dtype), step),
            beta2_power=tf.pow(tf.cast(self.beta_2, variable.dtype), step),
            lr=tf.cast(learning_rate, variable.dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


class FusedSGD(keras.optimizers.SGD):
    """Keras's SGD with momentum as one kernel a variable."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable in place."""
        import tensorflow as tf

        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=self.momentums[self._get_variable_index(variable)].value.handle,
            lr=tf.cast(learning_rate, variable.dtype),
            grad=gradient,
            momentum=self.momentum,
            use_nesterov=self.nesterov,
        )
