"""The model card: a README.md that says what a trained model is and how good it was measured."""

from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

USAGE = """\
## How to use it

```python
from hffruits import FruitClassifier

FruitClassifier.from_pretrained("path/of/this/folder").predict("photo.jpg")
```

or, without `hffruits` installed:

```python
from transformers import pipeline

pipeline("image-classification", "path/of/this/folder")("photo.jpg")
```
"""
_TEMPLATE = (
    """\
---
{{ card_data }}
---

# Fruit classifier: {{ classes | length }} classes

{{ backbone }} fine-tuned with `hffruits` to tell these apart: {{ classes | join(", ") }}.

## How good it is

| split | images | accuracy (95 % interval) | top-5 | macro-F1 | calibration error |
|---|---|---|---|---|---|
{% for split, m in measured.items() -%}
| {{ split }} | {{ m.images }} | {{ "%.1f" | format(100 * m.accuracy) }} % \
({{ "%.1f" | format(100 * m.intervals.accuracy[0]) }} to \
{{ "%.1f" | format(100 * m.intervals.accuracy[1]) }}) \
| {{ "%.1f" | format(100 * m.top5_accuracy) }} % | {{ "%.1f" | format(100 * m.macro_f1) }} % \
| {{ "%.1f" | format(100 * m.ece) }} % |
{% endfor %}
{%- set final = measured.test or measured.validation %}
{%- if final.most_confused %}
Most often confused:
{% for pair in final.most_confused[:5] %}
- {{ pair.class }} taken for {{ pair.taken_for }}: {{ pair.images }} \
({{ "%.0f" | format(100 * pair.share) }} % of its photos)
{%- endfor %}
{% endif %}
{% for split, count in data.near_duplicates_in_train.items() if count -%}
{{ count }} of the {{ split }} images have a near-duplicate among the training images, so these \
figures are too good.
{% endfor -%}
Trained on {{ data.images.train }} images, {{ "%.4g" | format(training.epochs) }} epochs.
{%- if training.best_epoch %} The validation images chose the best epoch.{% endif %}
{%- if measured.test %} The test images chose nothing.{% endif %}

"""
    + USAGE
    + """
{% if final.refused is defined and rejects -%}
`Prediction.known` is False for pictures unlike all that it has learned. So it refuses \
{{ "%.1f" | format(100 * final.refused) }} % of photos of its own classes, and most things that \
are no fruit; but many fruits that it hasn't learned pass for those that it has. `pipeline` \
answers with one of its classes whatever the picture shows, a shoe included.
{%- else -%}
It answers with one of its classes whatever the picture shows, a shoe included.
{%- endif %}

{% if final.temperature != 1 -%}
Its scores are calibrated: the validation images chose a temperature of \
{{ "%.2f" | format(final.temperature) }}, which is in the weights already.
{%- endif %}
"""
)


def write_model_card(folder: Path, metrics: dict[str, Any], labels: list[str]) -> None:
    """Write `README.md` from what was measured; `metrics` is what `metrics.json` holds."""
    measured = {split: metrics[split] for split in ("validation", "test") if split in metrics}
    split = "test" if "test" in measured else "validation"
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="image-classification",
        tags=["hffruits", "fruit"],
        model_name=folder.resolve().name,
        eval_results=[
            EvalResult(
                task_type="image-classification",
                dataset_type="imagefolder",
                dataset_name=Path(metrics["data"]["data_dir"]).resolve().name,
                dataset_split=split,
                metric_type=metric,
                metric_value=measured[split][key],
            )
            for metric, key in (("accuracy", "accuracy"), ("f1", "macro_f1"))
        ],
    )
    card = ModelCard.from_template(
        data,
        template_str=_TEMPLATE,
        backbone=metrics["model"]["name_or_path"],
        classes=labels,
        measured=measured,
        data=metrics["data"],
        training=metrics["training"],
        rejects=(folder / "prototypes.safetensors").is_file(),
    )
    card.save(folder / "README.md")
