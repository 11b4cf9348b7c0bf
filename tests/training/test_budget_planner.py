"""The time budget: what is planned for it, and what happens when it is used up."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from support.runs import quick_arguments

from hffruits import InputError
from hffruits.cli.main import main
from hffruits.data.arguments import DataArguments
from hffruits.data.load import load_fruits
from hffruits.training import budget_planner as planning
from hffruits.training.arguments import Arguments, FruitTrainingArguments, ModelArguments
from hffruits.training.budget_planner import (
    as_planned,
    candidates,
    count_work,
    fit_into_time,
    measure_cost,
)
from hffruits.training.cost_estimate import OTHER_SECONDS, Cost, Plan, Work, describe_plan
from hffruits.training.run import train
from hffruits.training.run_state import TrainingRun
from hffruits.training.setup import prepare_model

pytestmark = pytest.mark.usefixtures("without_report")

LABELS = ["Apple", "Pear"]
FREE = Cost(0.0, 0.0, 0.0, 0.0, 0.0)


def test_no_time_is_an_error_of_the_command_line(capsys):
    assert main(["train", "--time_budget", "soon"]) == 2
    assert "time_budget=soon" in capsys.readouterr().err


def plan(epochs: float, views: int) -> Plan:
    cost = Cost(decode=0.3, view=0.1, step=0.5, check=1.0, inference=1.0)
    return Plan(ModelArguments(), epochs, (2, 6), views, cost, Work(10, 2, 5))


def test_the_time_of_a_plan_is_that_of_its_parts():
    # 12 photos decoded, views of 10 and one of 2; epochs of 10 * 0.5 + 2 s; at the end 2 + 5 s
    found = plan(3, 2).parts
    assert found["for features"] == pytest.approx(3.6 + 2.2)
    assert found["for training"] == 3 * 7
    assert found["to evaluate the model"] == OTHER_SECONDS + 7
    assert plan(3, 2).seconds == sum(found.values())
    assert "for features" not in plan(3, 0).parts


@pytest.mark.parametrize(("seconds", "epochs"), [(1000, 6), (15 + 30, 4), (15 + 6, 1), (0, 1)])
def test_as_many_epochs_as_fit_into_what_is_left(seconds, epochs):
    assert plan(5, 2).epochs_within(seconds) == epochs  # of 7 s, and 15 s at the end


def test_epochs_that_were_asked_for_stay():
    assert replace(plan(2.5, 2), limits=(2.5, 2.5)).epochs_within(0) == 2.5


def test_a_plan_is_described_in_one_line():
    words = describe_plan(plan(2.5, 2), "5m")
    assert words.startswith("time_budget=5m: 2.5 epochs, freeze=half; about 6 s for features, 18 s")


def run_of(photos, model: ModelArguments | None = None, **options) -> TrainingRun:
    """A run that starts now, with its photos."""
    model, args = model or ModelArguments(), FruitTrainingArguments(**options)
    run = TrainingRun(DataArguments(), model, args, started=planning.time.monotonic())
    run.datasets = load_fruits(photos)
    return run


def settings(model: ModelArguments, **options) -> list[tuple]:
    found = candidates(Arguments(DataArguments(), model, FruitTrainingArguments(**options)), LABELS)
    return [(m.train_image_size or m.image_size, m.freeze, epochs) for m, epochs in found]


def test_the_most_accurate_setting_is_considered_first():
    first, *_, last = settings(ModelArguments())
    best, quickest = planning.SETTINGS[0], planning.SETTINGS[-1]
    assert first == (None, best.freeze, best.epochs)
    assert last[0] in (None, round(quickest.size * 224)) and last[1] == quickest.freeze


def test_what_is_set_stays():
    assert {size for size, *_ in settings(ModelArguments(image_size=96))} == {96}
    assert {plan for _, plan, _ in settings(ModelArguments(freeze="stages:1"))} == {"stages:1"}
    found = settings(ModelArguments(), num_train_epochs=2.5)
    assert {epochs for *_, epochs in found} == {(2.5, 2.5)}


def test_settings_that_do_not_go_with_what_is_asked_for_are_left_out():
    assert "head_only" in {plan for _, plan, _ in settings(ModelArguments())}
    assert "head_only" not in {plan for _, plan, _ in settings(ModelArguments(), layer_decay=0.7)}
    assert {size for size, *_ in settings(ModelArguments(train_image_size=128))} == {128}


def test_nets_of_one_size_and_random_weights_have_fewer_choices():
    vit = settings(ModelArguments("test_vit", pretrained=False))
    fewest = min(setting.epochs[0] for setting in planning.SETTINGS)
    most = max(setting.epochs[1] for setting in planning.SETTINGS)
    assert vit == [(None, "half", (fewest, most))]  # which means none to it


def test_measuring_the_cost_on_a_few_photos_does_not_change_the_model(drawn_fruits):
    run = run_of(drawn_fruits, ModelArguments(image_size=64), bf16=False)
    prepared = prepare_model(run.model_args, run.args, run.labels)
    before = {name: tensor.clone() for name, tensor in prepared.model.state_dict().items()}
    for views in (0, 2):
        cost = measure_cost(replace(run, prepared=replace(prepared, views=views)))
        assert (cost.view > 0) == (cost.decode > 0) == (views > 0)
        assert min(cost.step, cost.check, cost.inference) > 0
    for name, tensor in prepared.model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert all(weight.grad is None for weight in prepared.model.parameters())


def test_two_processes_share_the_photos_and_one_calibrates(drawn_fruits):
    datasets = load_fruits(drawn_fruits)  # 32, 12 and 20 photos of 4 classes
    assert count_work(datasets, classes=4, processes=1) == Work(32, 12, (12 + 20) + (12 + 32))
    assert count_work(datasets, classes=4, processes=2) == Work(16, 6, (12 + 20) / 2 + (12 + 32))


# each setting's image costs a tenth of the one before it
@pytest.mark.parametrize(("step", "chosen"), [(0.0, 0), (5.0, 1), (60.0, 2)])
def test_the_first_setting_that_fits_is_taken(drawn_fruits, monkeypatch, step, chosen):
    steps = iter([step, step / 10, step / 100, step / 1000])
    monkeypatch.setattr(planning, "measure_cost", lambda *_: replace(FREE, step=next(steps)))
    monkeypatch.setattr(planning, "_least_seconds", lambda _: 0.0)
    monkeypatch.setattr(planning, "choose_views", lambda *_: 3)
    run = run_of(drawn_fruits, time_budget="10m")
    options = candidates(run.arguments, LABELS)
    plan = fit_into_time(run)
    cached = {"feature_cache_views": plan.views}
    assert plan.model_args == replace(options[chosen][0], **cached)
    assert options[chosen][1][0] <= plan.epochs <= options[chosen][1][1]
    assert plan.views == min(3, plan.epochs)


def test_too_little_time_is_an_error_that_says_what_it_takes(drawn_fruits, monkeypatch):
    monkeypatch.setattr(planning, "measure_cost", lambda *_: replace(FREE, inference=1.0))
    monkeypatch.setattr(planning, "is_installed", lambda name: name == "efficientnet_lite0")
    monkeypatch.setattr(planning, "_least_seconds", lambda _: 0.0)
    monkeypatch.setattr(planning, "choose_views", lambda *_: 0)
    with pytest.raises(InputError, match=r"time_budget=30s: .* takes about 1 min \d+ s here"):
        fit_into_time(run_of(drawn_fruits, time_budget="30s"))


def test_a_run_does_what_was_planned_and_a_resumed_one_the_same(
    drawn_fruits, tmp_path, monkeypatch
):
    asked = ModelArguments(image_size=64, freeze="three_quarters", feature_cache_views=2)
    plan = Plan(asked, 2, (1, 3), 2, FREE, Work(1, 1, 1))  # it turns out that 3 epochs fit
    monkeypatch.setattr("hffruits.training.run.fit_into_time", lambda _: plan)
    options = {"num_train_epochs": 16, "time_budget": "20m", "save_total_limit": None}
    metrics = train(*quick_arguments(drawn_fruits, tmp_path / "run", **options))
    assert metrics["training"]["epochs"] == 3
    recorded = json.loads((tmp_path / "run" / "training_args.json").read_text())
    assert recorded["training"]["num_train_epochs"] == 3
    assert recorded["model"]["freeze"] == "three_quarters"
    assert recorded["seconds_at_end"] == pytest.approx(OTHER_SECONDS, abs=1)
    first = min((tmp_path / "run").glob("checkpoint-*"), key=lambda path: len(path.name))
    options |= {"resume_from_checkpoint": str(first)}
    again = train(*quick_arguments(drawn_fruits, tmp_path / "two", **options))
    assert again["training"]["steps"] == metrics["training"]["steps"] == 12
    assert again["validation"]["loss"] == metrics["validation"]["loss"]


def test_a_machine_that_was_busy_when_it_was_tried_is_planned_for_again(
    drawn_fruits, tmp_path, monkeypatch, caplog
):
    caplog.set_level("INFO")
    small, large = (ModelArguments(image_size=size, freeze="three_quarters") for size in (32, 64))
    slow = Plan(small, 1, (1, 2), 1, replace(FREE, step=10.0), Work(32, 12, 32))
    quick = replace(slow, model_args=large, cost=FREE)
    plans = iter([slow, quick])
    monkeypatch.setattr("hffruits.training.run.fit_into_time", lambda *_, **__: next(plans))
    options = {"num_train_epochs": 16, "time_budget": "20m"}
    train(*quick_arguments(drawn_fruits, tmp_path / "run", **options))
    recorded = json.loads((tmp_path / "run" / "training_args.json").read_text())
    assert recorded["model"]["image_size"] == 64
    assert "the machine is faster than it was" in caplog.text
    assert next(plans, None) is None


def test_what_is_planned_again_is_better_or_stays(drawn_fruits, monkeypatch):
    monkeypatch.setattr(planning, "measure_cost", lambda *_: FREE)
    monkeypatch.setattr(planning, "choose_views", lambda *_: 3)
    run = run_of(drawn_fruits, time_budget="10m")
    options = candidates(run.arguments, LABELS)
    first, second = (Plan(one, 1, (1, 2), 1, FREE, Work(1, 1, 1)) for one, _ in options[:2])
    assert fit_into_time(run, better_than=first) is None
    better = fit_into_time(run, better_than=second)
    assert replace(better.model_args, feature_cache_views=None) == options[0][0]


def test_settings_that_can_not_fit_are_not_tried_at_length(drawn_fruits, monkeypatch):
    tried = []
    monkeypatch.setattr(planning, "_least_seconds", lambda run: 1e6)
    monkeypatch.setattr(planning, "measure_cost", lambda run: tried.append(run.model_args) or FREE)
    monkeypatch.setattr(planning, "choose_views", lambda *_: 3)
    run = run_of(drawn_fruits, time_budget="10m")
    plan = fit_into_time(run)  # the last is always tried, for the error that it may be
    assert tried == [candidates(run.arguments, LABELS)[-1][0]]
    assert plan.model_args.freeze == tried[0].freeze == planning.SETTINGS[-1].freeze


def test_a_larger_backbone_is_considered_where_it_is_installed(monkeypatch):
    arguments = Arguments(DataArguments(), ModelArguments(), FruitTrainingArguments())
    names = {m.model_name_or_path for m, _ in candidates(arguments, LABELS)}
    assert names == {"efficientnet_lite0", "efficientnet_lite2"}
    monkeypatch.setattr(planning, "is_installed", lambda name: name == "efficientnet_lite0")
    names = {m.model_name_or_path for m, _ in candidates(arguments, LABELS)}
    assert names == {"efficientnet_lite0"}
    asked = Arguments(DataArguments(), ModelArguments("efficientnet_lite1"), arguments.training)
    assert {m.model_name_or_path for m, _ in candidates(asked, LABELS)} == {"efficientnet_lite1"}


def test_measuring_that_takes_all_of_the_time_is_an_error(drawn_fruits, monkeypatch):
    monkeypatch.setattr(planning, "measure_cost", lambda *_: FREE)
    run = run_of(drawn_fruits, time_budget="1m")
    run.started -= 60
    with pytest.raises(InputError, match=r"time_budget=1m: .* went into reading the photos"):
        fit_into_time(run)


def test_a_resumed_run_keeps_its_plan():
    planned = {"model": asdict(ModelArguments(image_size=160, freeze="head_only"))}
    recorded = planned | {"training": {"time_budget": "5m", "num_train_epochs": 7}}
    args = FruitTrainingArguments(time_budget="5m")
    model_args, training_args = as_planned(recorded, ModelArguments(), args)
    assert (model_args.image_size, model_args.freeze) == (160, "head_only")
    asked, _ = as_planned(recorded, ModelArguments(image_size=96), args)
    assert asked.image_size == 96  # which check_same_run refuses
    assert training_args.num_train_epochs == 7
    recorded["training"]["time_budget"] = None
    assert as_planned(recorded, ModelArguments(), args) == (ModelArguments(), args)


def test_a_run_that_takes_longer_than_thought_is_ended_and_saved(
    drawn_fruits, tmp_path, monkeypatch, caplog
):
    asked = ModelArguments(image_size=64, feature_cache_views=0)
    plan = Plan(asked, 10, (10, 10), 0, FREE, Work(1, 1, 1))
    monkeypatch.setattr("hffruits.training.run.fit_into_time", lambda _: plan)
    options = {"time_budget": "0.1s", "num_train_epochs": 16}
    metrics = train(*quick_arguments(drawn_fruits, tmp_path / "run", **options))
    assert metrics["training"]["steps"] == 1  # of 40
    assert "stopped at epoch 0.2 of 10" in caplog.text
    assert (tmp_path / "run" / "model.safetensors").is_file()
    assert metrics["validation"]["images"] == 12
