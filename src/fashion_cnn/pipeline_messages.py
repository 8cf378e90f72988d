"""What `fashion-cnn train` prints about its steps 1 to 5, before it trains."""

from fashion_cnn.console import plural, print_message, usage_errors
from fashion_cnn.data.augment import FLIPS
from fashion_cnn.data.dataset import Data
from fashion_cnn.inference.model_files import model_name
from fashion_cnn.recipe import Recipe

INDENT = " " * 14  # below the names of the steps


def print_data(recipe: Recipe, data: Data) -> None:
    """Where the data is from, its sizes, and its notes."""
    held_out = len(data.validation_index) if recipe.validation == "validation" else 0
    train, test = len(data.train_labels) - held_out, len(data.test_labels)
    print_message(f"{INDENT}{data.location}")
    print_message(f"{INDENT}{train:,} to train, {held_out:,} to validate, {test:,} to test")
    print_notes(data)
    print_message("2 Normalize   the network's first layer scales the pixels, 0..255, itself")


def print_notes(data: Data) -> None:
    """The warnings of the data, a line each."""
    for note in data.notes:
        print_message(f"{INDENT}{note}")


def print_network(recipe: Recipe, data: Data) -> None:
    """Build the network of the recipe, and print its layers.

    Raises:
        UsageError: an option of the network does not fit.
    """
    from fashion_cnn.keras_setup import keras
    from fashion_cnn.models import build_model

    with usage_errors(f"{recipe.model}: "):
        model = build_model(recipe.model, data.image_shape, len(data.class_names), recipe.options)
    backend = keras.backend.backend()
    print_message(f"3 Build       {recipe.model} on Keras {keras.__version__}, {backend}")
    print_message(f"{INDENT}{'layer':<24}{'output':<18}{'parameters':>10}")
    for layer in model.layers:
        kind, shape = type(layer).__name__, str(tuple(layer.output.shape[1:]))
        if kind != "InputLayer":
            print_message(f"{INDENT}{kind:<24}{shape:<18}{layer.count_params():>10,}")
    print_message(f"{INDENT}{'total':<42}{model.count_params():>10,}")
    rate = f"learning rate {recipe.learning_rate} ({recipe.schedule})"
    print_message(f"4 Compile     {recipe.optimizer}, {rate}, categorical cross-entropy, accuracy")


def print_training(recipe: Recipe, processes: int | None) -> None:
    """What the training will do, and what will have no effect."""
    epochs = f"{recipe.epochs} {plural(recipe.epochs, 'epoch', 'epochs')}"
    is_pretrained = recipe.options.get("weights") != "none"
    head_epochs = min(recipe.head_epochs, recipe.epochs) if is_pretrained else 0
    if head_epochs:
        epochs += f", the first {head_epochs} of the head alone"
    epochs += f" by {processes} {plural(processes, 'process', 'processes')}" if processes else ""
    epochs += f", distilled from {model_name(recipe.teacher)}" if recipe.teacher else ""
    print_message(f"5 Train       {epochs}, batches of {recipe.batch_size}, seed {recipe.seed}")
    without_effect = [name for name in recipe.augment if name not in FLIPS]
    without_effect += ["cutmix"] if recipe.cutmix else []
    if head_epochs and without_effect:
        print_message(
            f"{INDENT}the head trains on precomputed features, so these augmentations are not "
            f"applied to it: {', '.join(without_effect)}"
        )
