"""Engines that run a model. Nothing is exported here: each runtime is imported only when used.

base                the protocol of an engine, and the opener that picks one by the folder
torch               PyTorch
onnx                ONNX Runtime
openvino            OpenVINO; openvino_loading imports it without its telemetry
"""
