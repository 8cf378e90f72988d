"""Batch normalization as one kernel, and the copy of a network that trains with it."""

import os

import numpy as np
import pytest

from fashion_cnn import build_model
from fashion_cnn.keras_setup import bfloat16_is_fast, keras
from fashion_cnn.training.normalization import FusedBatchNormalization, training_copy


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(4, 5, 6, 7), (40, 7)])
def test_fused_batch_normalization_equals_keras(shape, training):
    inputs = np.random.default_rng(0).normal(3, 2, shape).astype("float32")
    results = []
    for layer_class in (FusedBatchNormalization, keras.layers.BatchNormalization):
        layer = layer_class(momentum=0.7)
        layer.build(inputs.shape)
        rng = np.random.default_rng(1)
        layer.set_weights([rng.uniform(0.5, 2, 7) for _ in layer.weights])
        outputs = layer(inputs, training=training)
        if training and hasattr(layer, "statistics"):  # on TensorFlow
            layer.update_moving_averages(layer.statistics)
        results.append([np.asarray(outputs), *layer.get_weights()])
    for fused, expected in zip(*results, strict=True):
        np.testing.assert_allclose(fused, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "precision", "tolerance"),
    [
        ("compact", "bfloat16", 0.05),
        ("compact", "float32", 1e-5),
        ("residual", "bfloat16", 0.05),
        ("residual", "float32", 1e-5),
        ("textbook", "float32", 1e-6),
    ],
)
def test_a_training_copy_is_the_same_network(name, precision, tolerance):
    images = np.random.default_rng(0).integers(0, 256, (5, 20, 24, 3), dtype=np.uint8)
    network = build_model(name, (20, 24, 3), 7)
    model = training_copy(network, precision)
    names = [type(layer).__name__ for layer in model.layers]
    assert "BatchNormalization" not in names
    dtypes = [layer.compute_dtype for layer in model.layers[1:]]  # first and last: float32
    assert dtypes == ["float32"] + [precision] * (len(dtypes) - 2) + ["float32"]
    assert {str(v.dtype) for v in model.trainable_variables} == {"float32"}
    assert [v.shape for v in model.weights] == [v.shape for v in network.weights]
    if precision == "bfloat16" and "ONEDNN_MAX_CPU_ISA" in os.environ and not bfloat16_is_fast():
        pytest.skip("ONEDNN_MAX_CPU_ISA leaves oneDNN no bfloat16 convolution to compare")
    expected = network.predict(images, verbose=0)
    np.testing.assert_allclose(expected, model.predict(images, verbose=0), atol=tolerance)
