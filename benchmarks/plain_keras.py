"""Claim: none of its own; this is the baseline, the textbook's script in plain Keras.

    python benchmarks/plain_keras.py [--epochs 10] [--wait]

Follows the textbook's code step by step: float images scaled outside the model, one-hot labels,
`fit` with batches of 64 and the test set as validation data. Prints the seconds of each epoch as it
ends, then those of the whole `fit`, the test accuracy and the peak memory. With --wait an epoch
starts when a line arrives on standard input, so that another program can take turns with it.
Seeds: none is set. Machine: 2 CPU cores. Duration: 2 minutes.
"""

import argparse
import json
import resource
import sys
import time


def epoch_timer(wait: bool):
    """Return a Keras callback that prints the seconds of each epoch, validation included."""
    import keras

    class EpochTimer(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if wait and not sys.stdin.readline():
                sys.exit(1)  # the other program has ended
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            seconds = time.perf_counter() - self.start
            print(json.dumps({"epoch": epoch + 1, "seconds": seconds, **logs}), flush=True)

    return EpochTimer()


def peak_mb() -> float:
    """Return the peak memory of this process in MB (Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def train_plain_keras(epochs: int, wait: bool) -> dict[str, float]:
    import keras
    import numpy as np
    from keras import layers

    from fashion_cnn import load_data

    data = load_data()
    x_train = np.reshape(data.train_images, (-1, 28, 28, 1)) / 255.0
    x_test = np.reshape(data.test_images, (-1, 28, 28, 1)) / 255.0
    y_train = keras.utils.to_categorical(data.train_labels, 10)
    y_test = keras.utils.to_categorical(data.test_labels, 10)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, (3, 3), activation="relu"),
            layers.MaxPooling2D((2, 2)),
            layers.Conv2D(64, (3, 3), activation="relu"),
            layers.MaxPooling2D((2, 2)),
            layers.Conv2D(128, (3, 3), activation="relu"),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    start = time.perf_counter()
    model.fit(
        x_train,
        y_train,
        epochs=epochs,
        batch_size=64,
        validation_data=(x_test, y_test),
        callbacks=[epoch_timer(wait)],
        verbose=0,
    )
    seconds = time.perf_counter() - start
    _, accuracy = model.evaluate(x_test, y_test, verbose=0)
    return {"seconds": seconds, "test_accuracy": accuracy, "peak_mb": peak_mb()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--wait", action="store_true", help="start an epoch at a line on stdin")
    arguments = parser.parse_args()
    print(json.dumps(train_plain_keras(arguments.epochs, arguments.wait)), flush=True)
