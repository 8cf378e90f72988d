"""The textbook's script in plain Keras, which every other figure is measured against.

    python benchmarks/plain_keras.py [--epochs 10] [--wait]

Does what the textbook's code does, step by step: float arrays scaled outside the model, one-hot
labels, `fit` with batches of 64 and the test set as validation data. Prints the seconds of each
epoch as it ends, then the seconds of the whole `fit` (S in the other benchmarks), the test
accuracy and the peak memory. With --wait an epoch begins when a line comes on standard input, so
that another program can take turns with it.
"""

import argparse
import json
import resource
import sys
import time


def clock(wait: bool):
    """A Keras callback that prints the seconds of each epoch, validation counted."""
    import keras

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if wait and not sys.stdin.readline():
                sys.exit(1)  # whoever took turns with us has gone
            self.began = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            seconds = time.perf_counter() - self.began
            print(json.dumps({"epoch": epoch + 1, "seconds": seconds, **logs}), flush=True)

    return Clock()


def plain_fit(epochs: int, wait: bool) -> dict[str, float]:
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
    began = time.perf_counter()
    model.fit(
        x_train,
        y_train,
        epochs=epochs,
        batch_size=64,
        validation_data=(x_test, y_test),
        callbacks=[clock(wait)],
        verbose=0,
    )
    seconds = time.perf_counter() - began
    _, accuracy = model.evaluate(x_test, y_test, verbose=0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"fit_seconds": seconds, "test_accuracy": accuracy, "peak_megabytes": peak}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--wait", action="store_true")
    arguments = parser.parse_args()
    print(json.dumps(plain_fit(arguments.epochs, arguments.wait)), flush=True)
