"""`import hffruits`: every example in the docstrings of the public names is run."""

import doctest
import inspect
import shutil
from pathlib import Path

import pytest
from support.drawing import draw_fruit

import hffruits
from hffruits import FruitClassifier, InputError, Prediction

METHODS = ("from_pretrained", "predict", "stream", "explain")
PUBLIC = [getattr(hffruits, name) for name in hffruits.__all__]
WITH_EXAMPLES = [*PUBLIC, *(getattr(FruitClassifier, name) for name in METHODS)]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture
def notebook(trained: Path, drawn_fruits: Path, local_hub, tmp_path: Path, monkeypatch) -> Path:
    """A folder such as the examples are run in: photos, a trained model, a login to the Hub."""
    place = tmp_path / "notebook"
    shutil.copytree(drawn_fruits, place / "fruits")
    shutil.copytree(trained, place / "runs" / "fruits")
    for number in (1, 2):
        draw_fruit("Orange", seed=number, size=96).save(place / f"{number}.jpg")
        (place / "folder").mkdir(exist_ok=True)
        draw_fruit("Apple", seed=number, size=96).save(place / "folder" / f"{number}.jpg")
    shutil.copy(place / "fruits/test/Apple/0.png", place / "photo.jpg")
    monkeypatch.chdir(place)
    return place


@pytest.mark.parametrize("public", WITH_EXAMPLES, ids=lambda public: public.__qualname__)
def test_the_example_of_a_public_name_is_true(public, notebook):
    (test,) = doctest.DocTestFinder(recurse=False).find(public, globs={})
    assert test.examples
    printed: list[str] = []
    result = doctest.DocTestRunner(optionflags=FLAGS).run(test, out=printed.append)
    assert not result.failed, "".join(printed)


def test_public_functions_say_what_they_take_give_and_raise():
    for public in PUBLIC:
        if inspect.isfunction(public):
            text = inspect.getdoc(public)
            for name in inspect.signature(public).parameters:
                assert f"\n    {name}: " in text or f"\n    **{name}: " in text, (public, name)
            for part in ("Args:", "Returns:", "Raises:", ">>> "):
                assert f"\n{part}" in text, (public, part)
    members = {**vars(FruitClassifier), **vars(Prediction)}
    for name, member in members.items():
        if not name.startswith("_") and (callable(member) or isinstance(member, property)):
            assert inspect.getdoc(member), name


@pytest.mark.parametrize("name", ["evaluate", "compare", "explore", "split", "export"])
def test_a_wrong_keyword_is_refused_with_the_one_that_is_meant(name, tmp_path):
    models = {"evaluate": 1, "compare": 2, "export": 1}.get(name, 0)
    function, words = getattr(hffruits, name), ["runs/none"] * models
    with pytest.raises(InputError, match=r"^ouput_dir: unknown \(did you mean output_dir"):
        function(*words, tmp_path, ouput_dir=tmp_path)
    with pytest.raises(InputError, match=r"^exclud: unknown \(did you mean exclude\?"):
        function(*words, tmp_path, exclud="x.txt")


def test_a_result_has_its_report_only_where_it_was_made(trained, drawn_fruits, tmp_path):
    evaluation = hffruits.evaluate(trained, drawn_fruits, output_dir=tmp_path / "out")
    assert evaluation.report == tmp_path / "out" / "report.html"
    assert evaluation.record["command"] is None
    assert 'class="command"' not in evaluation.report.read_text("utf-8")
    evaluation.report.unlink()
    assert evaluation.report is None
