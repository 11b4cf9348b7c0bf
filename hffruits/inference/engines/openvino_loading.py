"""OpenVINO without its telemetry: importing it would report each process to Google Analytics."""

import importlib
import sys
from types import ModuleType


def load_openvino() -> ModuleType:
    """The package, which takes its own stub where it finds no telemetry. Raises ImportError."""
    hidden = "openvino_telemetry"
    found = sys.modules.get(hidden)
    sys.modules[hidden] = None  # what an import of it then raises is an ImportError
    try:
        return importlib.import_module("openvino")
    finally:
        del sys.modules[hidden]
        if found is not None:
            sys.modules[hidden] = found
