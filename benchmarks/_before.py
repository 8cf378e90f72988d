"""The recipes before their second round: benchmarks compare today's with them."""

from dataclasses import replace

from fashion_cnn.recipe import Recipe

_SPRINT = Recipe(
    "sprint",
    model="compact",
    options={"hidden": 64},
    optimizer="sgd",
    learning_rate=0.2,
    schedule="triangle",
    warmup=0.25,
    momentum=0.85,
    weight_decay=0.003,
    epochs=2,
    batch_size=128,
    precision="bfloat16",
)
BEFORE: dict[str, Recipe] = {
    "sprint": _SPRINT,
    "quick": replace(
        _SPRINT, name="quick", options={}, epochs=5, augment=("flip",), label_smoothing=0.1
    ),
    "standard": replace(
        _SPRINT,
        name="standard",
        options={"convolutions": 2},
        epochs=10,
        augment=("flip", "shift1"),
        label_smoothing=0.1,
        flip_average=True,
    ),
    "thorough": replace(
        _SPRINT,
        name="thorough",
        model="residual",
        options={},
        epochs=40,
        augment=("flip", "shift", "erase"),
        label_smoothing=0.1,
        flip_average=True,
    ),
}
