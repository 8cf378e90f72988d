"""Optimizers by name: a recipe in, a Keras optimizer out.

Keras spends six to fourteen operations on a variable. The fused optimizers compute the same
formulas as one TensorFlow kernel a variable, which saves a tenth of a step of a small network
(docs/experiments.md).
"""

from typing import Any

from fashion_cnn.keras_setup import keras
from fashion_cnn.recipe import Recipe


def make_optimizer(recipe: Recipe, steps: int) -> Any:
    """The optimizer of a recipe for so many steps, as the fastest implementation there is."""
    fused = keras.backend.backend() == "tensorflow"
    rate: Any = recipe.learning_rate
    if recipe.schedule == "triangle":
        rate = Triangle(rate, round(recipe.warmup * steps), steps)
    decay = recipe.weight_decay or None
    if recipe.optimizer == "sgd":
        sgd = FusedSGD if fused and recipe.momentum else keras.optimizers.SGD
        optimizer = sgd(rate, momentum=float(recipe.momentum), nesterov=True, weight_decay=decay)
    else:
        adam = FusedAdam if fused else keras.optimizers.Adam
        optimizer = adam(rate, weight_decay=decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])
    return optimizer


class Triangle(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up to `peak` at step `warmup`, then linear decay to 0 at step `steps`."""

    def __init__(self, peak: float, warmup: int, steps: int) -> None:
        super().__init__()
        self.peak, self.warmup, self.steps = peak, warmup, steps

    def __call__(self, step: Any) -> Any:
        """The learning rate of a step, counted from 0, at the middle of the step."""
        step = keras.ops.cast(step, "float32") + 0.5
        up = step / self.warmup if self.warmup else keras.ops.ones_like(step)
        down = (self.steps - step) / (self.steps - self.warmup)
        return self.peak * keras.ops.maximum(keras.ops.minimum(up, down), 0.0)

    def get_config(self) -> dict[str, Any]:
        """The arguments of `__init__`."""
        return {"peak": self.peak, "warmup": self.warmup, "steps": self.steps}


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
