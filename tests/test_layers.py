"""A file imports only from lower floors, importing does nothing heavy, and the names are public."""

import ast
import subprocess
import sys
from pathlib import Path

import hffruits

PACKAGE = Path(hffruits.__file__).parent
FLOORS = {
    "errors": 0, "names": 0, "escaping": 0, "hardware": 0, "artifact": 0,
    "checkpoints": 1, "records": 1, "loader_workers": 1, "epoch_table": 1,
    "cache": 1, "images": 1, "drawing": 1, "precision": 1, "launching": 1, "layers": 1,
    "distributed": 1, "schedules": 1, "losses": 1, "sampling": 1, "ema": 1, "batch_norm": 1,
    "clipping": 1, "lora": 1, "plots": 1, "near_duplicates": 1, "splitting": 1,
    "hierarchy": 1, "label_errors": 1, "page": 1, "loading": 1, "source": 1, "tally": 1,
    "calibration": 1, "unknowns": 1, "views": 1, "journal": 1, "label_tables": 1,
    "folding": 1, "integer_steps": 1, "openvino_loading": 1, "memory": 1, "hub": 1,
    "hiding": 1, "memory_limit": 1,
    "archives": 2, "location": 2,
    "data_arguments": 2, "config": 3,
    "folders": 2, "samples": 2, "scan": 2, "duplicates": 2, "photo_cache": 2,
    "transforms": 2, "models": 2, "optim": 2, "metrics": 2, "run_dir": 2,
    "stopping": 2, "divergence": 2, "saving": 2, "freezing": 2,
    "onnx_engine": 2, "openvino_engine": 2, "feedback": 2, "uploads": 3, "upload_folder": 2,
    "hub_commit": 2, "time_budget": 2, "cutting": 2, "quick_convolutions": 2, "feature_cache": 3,
    "feature_room": 2, "feature_filling": 4, "kept_features": 11,
    "columns": 3, "streaming": 3, "features": 3, "summary": 3, "explain": 3, "engines": 3,
    "tracing": 3, "card": 3,
    "push": 4, "onnx_export": 4, "tables": 4, "webdataset": 4, "demo_look": 4, "predict": 4,
    "space_check": 5, "inputs": 5, "outcomes": 5, "export_formats": 5,
    "checking": 6, "measures": 6, "calibrate": 6, "robustness": 6, "report": 6,
    "teach": 6, "bulk": 6, "space": 6,
    "splits": 7, "audit": 7, "repair": 7, "stream_data": 7, "stream_audit": 7,
    "data": 8, "explore": 8, "cleaning": 8, "resplit": 9, "push_data": 9,
     "checks": 8, "tensors": 8, "labelled": 8,
    "trainer": 9, "evaluation": 9,
    "preparation": 10, "compare": 10, "export": 10,
    "planning": 12, "train": 13, "lr_finder": 11, "search": 11, "preview": 11,
    "demo_visitors": 9, "demo_server": 9, "demo_model": 9,
    "demo_recognise": 10, "demo_batch": 10, "demo_teach": 11,
    "demo": 14, "cli": 14,
}  # fmt: skip


def imported_modules(path: Path) -> set[str]:
    """The package's own modules that a file imports, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hffruits."):
            names.add(node.module.split(".")[1])
        elif isinstance(node, ast.ImportFrom) and node.module == "hffruits":
            names |= {alias.name for alias in node.names} & set(FLOORS)
        elif isinstance(node, ast.Import):
            names |= {a.name.split(".")[1] for a in node.names if a.name.startswith("hffruits.")}
    return names


def test_every_module_has_a_floor():
    assert {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"} == set(FLOORS)


def test_a_file_imports_only_from_lower_floors():
    for module, floor in FLOORS.items():
        for name in imported_modules(PACKAGE / f"{module}.py"):
            assert FLOORS[name] < floor, f"{module} (floor {floor}) imports {name}"


def test_the_public_names_are_these():
    assert hffruits.__all__ == [
        "FruitClassifier", "InputError", "Prediction", "build_model", "load_fruits",
    ]  # fmt: skip
    for name in hffruits.__all__:
        assert getattr(hffruits, name).__name__ == name


def test_the_package_and_its_help_import_nothing_heavy():
    code = (
        "import sys, hffruits.cli\n"
        "try: hffruits.cli.main(['--help'])\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "heavy = {'torch', 'transformers', 'datasets', 'gradio', 'numpy', 'PIL'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
