"""A trained model in other formats (ONNX, OpenVINO, torch.export), checked before it is kept."""
