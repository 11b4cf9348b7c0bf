"""The model card: a README.md that says what a trained model is and how good it was measured.

All it says is read from the model's folder, and put into words by `templates/model_card.md.jinja`.
Text from there is escaped here (`markdown`, `markdown_code`) or by the template's filter `tojson`.
"""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any
from unicodedata import category

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from hffruits.core.escaping import markdown, markdown_block, markdown_code
from hffruits.core.files import write_text
from hffruits.data.arguments import SAMPLE
from hffruits.data.samples import origin_of
from hffruits.models.artifact import (
    CARD,
    CONFIG,
    EXPORT,
    METRICS,
    PLOT,
    PROTOTYPES,
    REPORT,
    TRAINING_ARGS,
    WEIGHT_INDEX,
)
from hffruits.models.loading import hub_id
from hffruits.models.own_keys import drop_malformed

TEMPLATE = Path(__file__).with_name("templates") / "model_card.md.jinja"
FEW = 20  # training images of a class
MOST_NAMED = 20  # classes with few
WEAKEST = 5  # classes that are listed
FAR = "\u0590"  # begins what isn't Latin, Greek, Cyrillic or Armenian
FEWEST = 5  # photos of a class, below which its recall is not reported
RECIPE = (
    *("image_size", "train_image_size", "freeze", "augment", "per_device_train_batch_size"),
    *("num_train_epochs", "learning_rate", "lr_scheduler_type", "warmup_steps", "optim"),
    *("weight_decay", "layer_decay", "max_grad_norm", "label_smoothing_factor", "batch_norm"),
    *("ema_decay", "mixup_alpha", "cutmix_alpha", "class_weights", "lora_rank", "bf16", "seed"),
)
_METRICS = {  # the Hub's name, ours, and what a reader sees
    "accuracy": ("accuracy", "Accuracy"),
    "f1": ("macro_f1", "Macro F1"),
    "top_5_accuracy": ("top5_accuracy", "Top-5 accuracy"),
    "expected_calibration_error": ("ece", "Expected calibration error"),
}


def write_model_card(folder: Path, *, name: str | None = None) -> None:
    """Write `README.md` into a model's folder; `name` is what the folder will be called."""
    write_text(folder / CARD, str(model_card(folder, name=name)))


def model_card(
    folder: Path,
    *,
    name: str | None = None,
    repo_id: str | None = None,
    license: str | None = None,
    datasets: tuple[str, ...] = (),
) -> ModelCard:
    """The card of a trained, taught or exported model.

    `repo_id` is where it can be had, by default this folder; `license` and `datasets` are the Hub's
    names of them. A run's own Hub dataset is known.
    """
    config = _read(folder / CONFIG)
    classes = class_names(config)
    drop_malformed(config, classes, name=folder)
    metrics = _read(folder / METRICS)
    arguments = _read(folder / TRAINING_ARGS)
    export = _read(folder / EXPORT)
    taught = config.get("taught")
    kind = "export" if export else "taught" if taught else "trained" if metrics else "other"
    measured = {split: metrics[split] for split in ("validation", "test") if split in metrics}
    measured = measured if kind == "trained" else {}  # else those are metrics of another model
    split = "test" if "test" in measured else "validation"
    data = metrics.get("data", {})
    own_data = arguments.get("data", {}).get("dataset_name")
    datasets = tuple(dict.fromkeys([*datasets, *([own_data] if own_data else [])]))
    name = (repo_id or name or folder.resolve().name).rpartition("/")[2]
    backbone = _backbone(config, metrics)
    origin = str(export.get("made_from") or config.get("taught_from"))
    origin = Path(origin).name if Path(origin).is_absolute() else origin
    card_data = ModelCardData(
        license=license,
        base_model=origin if "/" in origin else backbone["hub_id"],
        datasets=list(datasets) or None,
        library_name="hffruits" if export else "transformers",
        pipeline_tag="image-classification",
        tags=["hffruits", "fruit", *(["timm"] if backbone["timm"] else []), *_formats(export)],
        model_name=name,
        eval_results=_results(measured, data, own_data) or None,
    )
    sharded, command = (folder / WEIGHT_INDEX).is_file(), arguments.get("command")
    return ModelCard.from_template(
        card_data,
        template_str=TEMPLATE.read_text(encoding="utf-8"),
        kind=kind,
        title=markdown(name.replace("_", " ")),
        place=repo_id or "path/of/this/folder",
        is_on_hub=repo_id is not None,
        backbone=backbone,
        timm=backbone["timm"] if not (export or sharded or config.get("model_args")) else None,
        classes=[markdown(name) for name in classes],
        coarse=bool(config.get("coarse_labels")),
        rejects=(folder / PROTOTYPES).is_file(),
        measured=measured,
        final=measured.get(split, {}),
        split=split,
        confused=_confused(measured.get(split, {})),
        weakest=_weakest(measured.get(split, {}), data.get("images_per_class")),
        unseen=_unseen(measured.get(split, {}), classes),
        plot=PLOT if (folder / PLOT).is_file() else None,
        numbered={f"`#{i}`": markdown(name) for i, name in enumerate(classes) if _is_far(name)},
        report=(folder / REPORT).is_file(),
        data=_data_facts(data, arguments, datasets),
        training=metrics.get("training", {}),
        command=command and markdown_block(command, "sh"),
        recipe=_recipe(arguments, metrics.get("versions", {})),
        taught={markdown(name): photos for name, photos in (taught or {}).items()},
        origin=markdown_code(origin),
        export=export,
        license=license and markdown(license),
    )


def _is_far(name: str) -> bool:
    """Whether not all fonts have it, so that the plot may show its number (`plots.drawable`)."""
    return any(letter >= FAR and category(letter)[0] not in "PZ" for letter in name)


def _backbone(config: dict[str, Any], metrics: dict[str, Any]) -> dict[str, Any]:
    """What the model was made from, as far as its folder says."""
    timm_config = config.get("pretrained_cfg") or {}
    recorded = metrics.get("model", {})
    name = recorded.get("name_or_path")
    base = recorded["hub_id"] if "hub_id" in recorded else hub_id(name) if name else None
    pretrained, own = recorded.get("pretrained", True), timm_config.get("license")
    return {
        "name": markdown(name or config.get("architecture") or config.get("model_type")),
        "pretrained": pretrained,
        "hub_id": base if pretrained else None,
        "timm": config.get("architecture") if timm_config else None,
        "size": " x ".join(map(str, timm_config.get("input_size", ())[1:])),
        "parameters": recorded.get("parameters"),
        "license": markdown(own) if pretrained and own else None,
    }


def _data_facts(
    data: dict[str, Any], arguments: dict[str, Any], datasets: tuple[str, ...]
) -> dict[str, Any]:
    """What is known of the photos; a stream's were not checked before."""
    source = str(data.get("data_dir"))
    per_class = data.get("images_per_class")
    counts = list((per_class or {}).values())
    few = [markdown(name) for name, count in (per_class or {}).items() if count < FEW]
    reasons = Counter(re.split(r": | \(", left["reason"])[0] for left in data.get("skipped", ()))
    return data | {
        "name": ", ".join(map(markdown_code, datasets))
        or (SAMPLE if source == SAMPLE else markdown_code(Path(source).name)),
        "origin": origin_of(source),
        "range": (min(counts), max(counts)) if counts else None,
        "few": few[:MOST_NAMED],
        "more_few": max(0, len(few) - MOST_NAMED),
        "left_out": {markdown(reason): count for reason, count in reasons.most_common()},
        "dropped": [markdown(name) for name in data.get("dropped_classes", ())],
        "checked": per_class is not None and not arguments.get("data", {}).get("exclude"),
    }


def _confused(final: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        pair | {key: markdown(pair[key]) for key in ("class", "predicted")}
        for pair in final.get("most_confused", ())[:WEAKEST]
    ]


def _unseen(final: dict[str, Any], classes: list[str]) -> list[str]:
    """Classes that no photo of the split shows."""
    counts = {name: own["support"] for name, own in final.get("classes", {}).items()}
    return [markdown(name) for name in classes if not counts.get(name)] if counts else []


def class_names(config: dict[str, Any]) -> list[str]:
    """The labels that a `config.json` holds, in their order; timm-wrapped models have a list."""
    if "label_names" in config:
        return config["label_names"]
    return [name for _, name in sorted(config["id2label"].items(), key=lambda pair: int(pair[0]))]


def _formats(export: dict[str, Any]) -> list[str]:
    return [export["format"], export["precision"]] if export else []


def _results(
    measured: dict[str, Any], data: dict[str, Any], own_data: str | None
) -> list[EvalResult]:
    """The metrics of each split, as the Hub's `model-index` has them."""
    name = own_data or Path(str(data.get("data_dir"))).name
    return [
        EvalResult(
            task_type="image-classification",
            task_name="Image classification",
            dataset_type=own_data or "imagefolder",
            dataset_name=name,
            dataset_split=split,
            metric_type=metric,
            metric_name=shown,
            metric_value=round(figures[key], 4),
        )
        for split, figures in measured.items()
        for metric, (key, shown) in _METRICS.items()
        if key in figures
    ]


def _weakest(
    final: dict[str, Any], per_class: dict[str, int] | None
) -> list[tuple[str, dict[str, Any]]]:
    """Classes with enough photos for a figure, the lowest recall first; none are perfect."""
    listed = [
        (markdown(name), own | {"trained_on": (per_class or {}).get(name)})
        for name, own in final.get("classes", {}).items()
        if own["support"] >= FEWEST and own["recall"] < 1
    ]
    return sorted(listed, key=lambda item: item[1]["recall"])[:WEAKEST]


def _recipe(arguments: dict[str, Any], versions: dict[str, str]) -> dict[str, Any]:
    """The settings that make the model what it is, less those that are off."""
    values = {
        k: v for part in ("model", "data", "training") for k, v in arguments.get(part, {}).items()
    }
    off = {"layer_decay": 1.0}
    kept = {
        name: values[name]
        for name in RECIPE
        if values.get(name) not in (None, False, 0, "none", off.get(name))
    }
    words = ", ".join(f"{package} {version}" for package, version in versions.items())
    kept |= {"versions": words} if words else {}
    return {name.replace("_", " "): markdown(value) for name, value in kept.items()}


def _read(file: Path) -> dict[str, Any]:
    """What a record holds; nothing where there is none."""
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
