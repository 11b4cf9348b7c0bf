"""The flags of the commands: what they pass on, and the command as it is recorded."""

import inspect
from pathlib import Path

import pytest

import hffruits
from hffruits.cli import parser as parsers
from hffruits.data.images import MAX_PIXELS

PARSERS = {
    "evaluate": parsers.evaluate_parser,
    "compare": parsers.compare_parser,
    "explore": parsers.explore_parser,
    "split": parsers.split_parser,
    "export": parsers.export_parser,
}


def test_a_command_about_data_takes_a_hub_id_where_no_folder_is(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    parser = parsers.explore_parser("Explore.")
    for word, folder, hub in (("user/fruits", None, "user/fruits"), ("photos", "photos", None)):
        data, _ = parsers.parse_data(parser, [word])
        assert (data.data_dir, data.dataset_name) == (folder, hub)
    with pytest.raises(SystemExit):
        parsers.parse_data(parser, ["photos", "--dataset_name", "user/fruits"])
    assert "give one of them" in capsys.readouterr().err


def test_every_path_of_a_command_may_begin_with_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for make in parsers._PARSERS.values():
        for action in make(None)._actions:
            if action.type is parsers._path:
                assert action.type("~/a") == tmp_path / "a"
            else:
                assert action.type is not Path


def test_push_has_the_options_and_defaults_of_its_function():
    options = vars(parsers.push_parser("Help.").parse_args(["runs/a", "user/fruits"]))
    known = inspect.signature(hffruits.push).parameters
    assert set(options) == set(known) - {"token"}  # that of the login
    for option in set(options) - {"folder", "repo_id"}:
        assert options[option] == known[option].default


@pytest.mark.parametrize("make", [parsers.predict_parser, parsers.demo_parser])
def test_the_help_names_the_limit_that_photos_have(make):
    assert f"[{MAX_PIXELS}]" in make("Help.").format_help()


@pytest.mark.parametrize("name", PARSERS)
def test_a_command_has_the_options_and_defaults_of_its_function(name):
    words = {"evaluate": ["runs/a"], "compare": ["runs/a", "runs/b"], "export": ["runs/a"]}
    _, options = parsers.parse_data(PARSERS[name]("Help."), words.get(name, []))
    known = inspect.signature(getattr(hffruits, name)).parameters
    apart = {"data", "command", "data_options"}  # named by the first word, and by the others
    assert set(options) == set(known) - apart
    for option in set(options) - {"model", "model_a", "model_b", "tta"}:
        assert options[option] == known[option].default
