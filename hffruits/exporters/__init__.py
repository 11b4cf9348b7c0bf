"""Exports of a trained model: ONNX, OpenVINO, web, `torch.export`.

run             one export, top to bottom
formats         a row for each format, which writes its files
onnx, web       ONNX graphs; the preprocessing inside the graph
torch_export    the traced model
parity          the check that an export predicts as its model does
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
