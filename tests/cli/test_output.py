"""What the commands print of a run: in words, each next step in one form."""

import copy

import pytest

from hffruits.cli.output import format_comparison, format_evaluation, format_export, format_figures

INTERVALS = {
    **{"accuracy": [0.679, 0.801], "ece": [0.0, 0.11], "ece_uncalibrated": [0.1, 0.2]},
    **{"rejected": [0.04, 0.13], "auroc": [0.9, 0.95], "fpr95": [0.1, 0.3]},
}
MEASURED = {
    **{"split": "test", "images": 196, "accuracy": 0.745, "coarse_accuracy": 0.786},
    **{"top5_accuracy": 0.964, "macro_f1": 0.68, "ece": 0.068, "ece_uncalibrated": 0.17},
    **{"temperature": 0.67, "rejected": 0.082, "reject_rate": 0.05, "intervals": INTERVALS},
    "classes": {f"Fruit {number}": {} for number in range(6)},
    "unknown": {"flowers": {"images": 1, "rejected": 0.9, "auroc": 0.93, "fpr95": 0.2}},
    "most_confused": [{"class": "Lime", "predicted": "Lemon", "images": 1, "share": 0.25}],
}
MEASURED["unknown"]["flowers"]["intervals"] = INTERVALS


def test_accuracy_has_its_interval_in_words():
    first, second = format_figures("Tested", MEASURED)
    assert first == "Tested    accuracy 74.5% on 196 photos (95% confidence: 67.9% to 80.1%)"
    assert second == (
        "          the right group (coarse class) 78.6%, in the top 5 96.4%, macro-F1 68.0%"
    )


def test_of_five_classes_the_top_five_is_not_listed():
    few = MEASURED | {"classes": {"Apple": {}, "Pear": {}}}
    assert "top 5" not in "\n".join(format_figures("Tested", few))


def test_an_evaluation_says_how_many_known_photos_were_not_recognised_and_what_was_asked_for():
    text = format_evaluation(MEASURED)
    assert "\nRejected  8.2% (4.0% to 13.0%) of these photos are reported as unknown" in text
    assert "5% was asked for" in text and "of 1 photo not recognised" in text
    assert "Lime predicted as Lemon: 1 photo (25% of the class)" in text
    never = copy.deepcopy(MEASURED) | {"reject_rate": 0.0, "unknown": {}}
    assert "recognised" not in format_evaluation(never)


def test_a_rate_below_one_percent_is_said_as_it_was_asked_for():
    assert "; 0.5% was asked for" in format_evaluation(MEASURED | {"reject_rate": 0.005})
    assert "; 7% was asked for" in format_evaluation(MEASURED | {"reject_rate": 0.07})


def test_a_comparison_has_a_header_over_its_columns_and_fits_into_60():
    row = {"a": 1.0, "b": 0.867, "difference": -0.133, "low": -0.2, "high": -0.1}
    record = {"a": "runs/a", "b": "runs/b", "verdict": "runs/a is better."}
    lines = format_comparison(record | {"metrics": {"balanced_accuracy": row}}).split("\n")
    head, figures = lines[3:5]
    assert head.split() == ["Metric,", "%", "A", "B", "B", "-", "A", "(95", "%", "interval)"]
    assert figures.split()[2:] == ["100.0", "86.7", "-13.3", "(-20.0", "to", "-10.0)"]
    for column in ("A", "B"):  # above the ends of the figures
        assert figures[head.index(f" {column}") + 1].isdigit()
    assert max(map(len, lines)) <= 60


@pytest.mark.parametrize("format", ["onnx", "web"])
def test_an_export_that_can_be_used_here_says_how(tmp_path, format):
    check = {"images": 9, "data": "test photos", "agreement": 1.0, "largest_difference": 1e-6}
    record = {"check": check, "megabytes": 13.7, "format": format}
    text = format_export(tmp_path / "my model", record)
    assert f"\nSaved     {tmp_path / 'my model'} (13.7 MB)" in text
    use = f"\nUse       hffruits predict '{tmp_path}/my model' FOLDER --output predictions.csv"
    assert (use in text) == (format == "onnx")
