"""What runs the model: PyTorch, ONNX Runtime, OpenVINO."""
