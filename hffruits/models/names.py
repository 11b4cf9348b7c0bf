"""What a user may give as a model: names and paths, checked before anything heavy is imported."""

import re
from difflib import get_close_matches
from pathlib import Path

from hffruits.core.errors import InputError
from hffruits.core.names import did_you_mean, list_names
from hffruits.models.artifact import CONFIG

FOLDER_REMEDY = "Give the folder with config.json and model.safetensors that training has written"
WEIGHT_FILES = {
    **dict.fromkeys((".safetensors", ".onnx", ".xml"), FOLDER_REMEDY),
    **dict.fromkeys(
        (".pth", ".pt", ".ckpt", ".bin", ".pkl", ".tar"),
        f"A pickle can run any code, so it is never loaded. {FOLDER_REMEDY}",
    ),
    **dict.fromkeys(
        (".h5", ".keras", ".tflite", ".pb"), f"Keras models are not read. {FOLDER_REMEDY}"
    ),
}  # suffix -> the remedy
_HUB = r"(?:https?://(?:www\.)?(?:huggingface\.co|hf\.co)/|hf://)"
_OTHER_HUB_URL = re.compile(rf"{_HUB}(dataset|space)s/")
_HUB_URL = re.compile(rf"{_HUB}([^/]+/[^/?#]+)")
_HUB_ID = re.compile(r"(?!runs/)\w[\w.-]*/[\w.-]+")  # runs/ is where training writes


def not_a_model(name: str) -> str:
    """What a name is that is no folder, and the remedy; "" for what may be a model's name."""
    path = Path(name).expanduser()
    if found := _OTHER_HUB_URL.match(name):
        return f"a {found[1]} of the Hub, not a model. Give the id of a model"
    if found := _HUB_URL.match(name):
        return f"a URL. Give the id, {found[1]}"
    if "://" in name:
        return "a URL. Download the model's folder first, or give a Hub id"
    may_be_id = name.count("/") == 1 and not path.parent.is_dir()
    if (remedy := WEIGHT_FILES.get(path.suffix.lower())) and not may_be_id:
        own = f": {path.parent}" if (path.parent / CONFIG).is_file() else ""
        return f"a checkpoint file, not a model's folder. {remedy}{own}"
    if path.is_file():
        return f"a file, not a model's folder. {FOLDER_REMEDY}"
    if _HUB_ID.fullmatch(name):  # whatever lies in a folder that is called like its user
        return ""
    beside = _models_beside(path) if name != path.name else []
    if beside or name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name:
        hint = did_you_mean(str(path), beside)
        hint = hint or (f" (there is {list_names(beside, most=3)})" if beside else "")
        return f"no such folder{hint}. Check the path of the trained model"
    return ""


def models_beside(name: str) -> str:
    """A sentence on the models in a folder that is called like the user of a Hub id; or ""."""
    models = _models_beside(Path(name))
    return f"Models in that folder here: {list_names(models, most=3)}." if models else ""


def _models_beside(path: Path) -> list[str]:
    """The folders beside a path that hold a model, those most like it first."""
    models = sorted(str(file.parent) for file in path.parent.glob(f"*/{CONFIG}"))
    return get_close_matches(str(path), models, len(models) or 1, 0)


def check_model_name(name: str | Path) -> None:
    """Raise `InputError` for what can't be a model, as far as its name alone and its path say that.

    Spares the import of what would load it.
    """
    path = Path(name).expanduser()
    if not path.is_dir() and (what := not_a_model(str(name))):
        raise InputError(f"{name}: {what}.")
