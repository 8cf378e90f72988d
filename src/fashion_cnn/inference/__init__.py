"""Predictions of exported models on ONNX Runtime or OpenVINO, without a deep learning framework."""
