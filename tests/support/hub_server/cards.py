"""Validation of a card's metadata, with the messages of the Hub where they are known.

Only the fields below are checked, and ids (base_model, datasets) only by their form.
"""

import re
from collections.abc import Callable, Iterator

import yaml

FRONT_MATTER = re.compile(r"\s*---[\r\n]+(.*?)[\r\n]+---\s*([\r\n]|$)", re.DOTALL)
REPO_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_LICENSES_TEXT = """
apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0
bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear
c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0
cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0
cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl
ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl
lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0
odc-by odbl open-mdw openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr
deepfloyd-if-license fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3
llama4 gemma unknown other
"""
LICENSES = tuple(_LICENSES_TEXT.split())
_TASKS_TEXT = """
text-classification token-classification table-question-answering question-answering
zero-shot-classification translation summarization feature-extraction text-generation fill-mask
sentence-similarity text-to-speech text-to-audio automatic-speech-recognition audio-to-audio
audio-classification audio-text-to-text voice-activity-detection depth-estimation
image-classification object-detection image-segmentation text-to-image image-to-text
image-to-image image-to-video unconditional-image-generation video-classification
reinforcement-learning robotics tabular-classification tabular-regression tabular-to-text
table-to-text multiple-choice text-ranking text-retrieval time-series-forecasting text-to-video
image-text-to-text visual-question-answering document-question-answering
zero-shot-image-classification graph-ml mask-generation zero-shot-object-detection text-to-3d
image-to-3d image-feature-extraction video-text-to-text keypoint-detection
visual-document-retrieval any-to-any video-to-video other
"""
TASKS = tuple(_TASKS_TEXT.split())
SDKS = ("gradio", "docker", "static", "streamlit")
COLOURS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")


def read_metadata(content: str) -> object:
    """The YAML at the head of a card; None where there is none.

    Raises:
        yaml.YAMLError: it can't be read.
    """
    found = FRONT_MATTER.match(content)
    return yaml.safe_load(found[1]) if found else None


def check_card(content: str, kind: str) -> tuple[list[str], list[str]]:
    """The errors and the warnings of a card of a "model", "dataset" or "space"."""
    try:
        metadata = read_metadata(content)
    except yaml.YAMLError as error:
        return [f"Invalid YAML metadata: {error}"], []
    if metadata is None:
        return [], ["empty or missing yaml metadata in repo card"]
    if not isinstance(metadata, dict):
        return ["YAML metadata must be a mapping"], []
    errors = [line for check in (*CHECKS["any"], *CHECKS[kind]) for line in check(metadata)]
    tag = metadata.get("pipeline_tag")
    if kind == "model" and tag is not None and tag not in TASKS:
        return errors, [f'The pipeline tag "{tag}" is not in the official list: {", ".join(TASKS)}']
    return errors, []


def _license(metadata: dict) -> Iterator[str]:
    named = metadata.get("license")
    if any(name not in LICENSES for name in _as_list(named)):
        yield f'"license" must be one of [{", ".join(LICENSES)}]'


def _tags(metadata: dict) -> Iterator[str]:
    if not isinstance(metadata.get("tags", []), list):
        yield '"tags" must be an array'


def _ids(metadata: dict) -> Iterator[str]:
    for key, hub in {"base_model": "models", "datasets": "datasets"}.items():
        for name in _as_list(metadata.get(key)):
            if not REPO_ID.fullmatch(str(name)):
                yield (
                    f'"{key}" with value "{name}" is not valid. Use a {key.removesuffix("s")} id '
                    f"from https://hf.co/{hub}."
                )


def _model_index(metadata: dict) -> Iterator[str]:
    if "model-index" not in metadata:
        return
    for model, place in _entries(metadata, "model-index", ""):
        yield from _required(model, place, "name")
        for result, at in _entries(model, "results", f"{place}."):
            yield from _required(result, at, "task", "dataset")
            yield from _required(result.get("task", {"type": ""}), f"{at}.task", "type")
            known = result.get("dataset", {"name": "", "type": ""})
            yield from _required(known, f"{at}.dataset", "name", "type")
            for metric, spot in _entries(result, "metrics", f"{at}."):
                yield from _required(metric, spot, "type", "value")
            if not result.get("metrics"):
                yield f'"{at}.metrics" is required'
        if not isinstance(model.get("results"), list):
            yield f'"{place}.results" must be an array'
    if not isinstance(metadata["model-index"], list):
        yield '"model-index" must be an array'


def _space(metadata: dict) -> Iterator[str]:
    yield from _one_of(metadata, "sdk", SDKS)
    if "sdk" not in metadata:
        yield '"sdk" is required'
    yield from _one_of(metadata, "colorFrom", COLOURS)
    yield from _one_of(metadata, "colorTo", COLOURS)
    app_file = metadata.get("app_file", "app.py")
    if not isinstance(app_file, str) or app_file.startswith("/") or ".." in app_file.split("/"):
        yield '"app_file" must be a path inside the repository'
    if not re.fullmatch(r"\d+(\.\w+)*", str(metadata.get("sdk_version", "1"))):
        yield '"sdk_version" must be a version'
    if len(str(metadata.get("short_description", ""))) > 60:
        yield '"short_description" length must be less than or equal to 60 characters long'


CHECKS: dict[str, tuple[Callable[[dict], Iterator[str]], ...]] = {
    "any": (_license, _tags, _ids),
    "model": (_model_index,),
    "dataset": (),
    "space": (_space,),
}


def _as_list(value: object) -> list:
    return value if isinstance(value, list) else [] if value is None else [value]


def _one_of(metadata: dict, key: str, known: tuple[str, ...]) -> Iterator[str]:
    if key in metadata and metadata[key] not in known:
        yield f'"{key}" must be one of [{", ".join(known)}]'


def _entries(holder: object, key: str, place: str) -> Iterator[tuple[dict, str]]:
    """The mappings of a list, with where they stand: `model-index[0].results[1]`."""
    found = holder.get(key) if isinstance(holder, dict) else None
    for number, entry in enumerate(found if isinstance(found, list) else []):
        yield entry if isinstance(entry, dict) else {}, f"{place}{key}[{number}]"


def _required(entry: object, place: str, *keys: str) -> Iterator[str]:
    for key in keys:
        if not isinstance(entry, dict) or entry.get(key) is None:
            yield f'"{place}.{key}" is required'
