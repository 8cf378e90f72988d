"""Predictions of exported models on ONNX Runtime, without a deep learning framework."""
