"""What a whole run says of rare classes: records, summary, report and card."""

from dataclasses import replace

from support.runs import tiny_arguments

from hffruits.cli.output import format_summary
from hffruits.evaluation.comparison import compare
from hffruits.evaluation.run import evaluate
from hffruits.training.run import train


def test_a_run_without_a_test_split_lists_the_classes_that_nothing_measures(make_folder, tmp_path):
    root = make_folder({"Apple": 8, "Lime": 8, "Plum": 1, "Banana": 1})
    data, model, args = tiny_arguments(root, tmp_path / "run", num_train_epochs=1)
    data = replace(data, test_fraction=0, rare_classes="train_only")
    metrics = train(data, model, args)
    assert "test" not in metrics and metrics["data"]["not_measured"] == {"Banana": 1, "Plum": 1}
    said = format_summary(metrics)
    assert "2 classes only trained on, measured nowhere: Banana (1), Plum (1)" in said
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "No photo here shows 2 of the model" in page and "A test split would be fairer" in page
    card = (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
    assert "because no validation image shows them: Banana, Plum." in card
    measured = evaluate(tmp_path / "run", output_dir=tmp_path / "evaluation").metrics
    assert measured["split"] == "validation" and measured["images"] == 2
    compare(tmp_path / "run", tmp_path / "run", output_dir=tmp_path / "comparison")


def test_classes_that_were_dropped_are_in_the_records_of_a_run(make_folder, tmp_path):
    root = make_folder({"Apple": 8, "Lime": 8, "Plum": 1})
    data, model, args = tiny_arguments(root, tmp_path / "run", num_train_epochs=1)
    metrics = train(replace(data, rare_classes="drop"), model, args)
    assert metrics["data"]["dropped_classes"] == {"Plum": 1}
    assert metrics["data"]["skipped"] == [{"path": "Plum/0.jpg", "reason": "rare class: Plum"}]
    assert "1 left out\n          1 class left out as too rare: Plum (1)" in format_summary(metrics)
    card = (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
    assert "Classes left out, because they have too few photos: Plum." in card
    left_out = "classes that training left out, as they have too few photos: Plum (1)."
    assert left_out in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    measured = evaluate(tmp_path / "run", output_dir=tmp_path / "evaluation")
    assert measured.metrics["dropped_classes"] == {"Plum": 1}
    assert left_out in measured.report.read_text(encoding="utf-8")
