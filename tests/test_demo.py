"""The demo without a browser: which model it serves, its endpoint, its errors, `app.py`."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

gradio_client = pytest.importorskip("gradio_client", reason="the demo needs gradio")

from hffruits.demo import (  # noqa: E402
    ARTIFACT,
    draw_examples,
    launch_demo,
    newest_model,
    open_model,
)
from hffruits.drawing import draw_fruit  # noqa: E402
from hffruits.models import build_model  # noqa: E402
from hffruits.predict import FruitClassifier  # noqa: E402
from hffruits.unknowns import find_prototypes, save_prototypes  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
LABELS = ["Apple", "Banana", "Dragon fruit", "Kiwi", "Lemon", "Pear"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with an untrained head, which knows drawn fruit from other things."""
    folder = tmp_path_factory.mktemp("runs") / "sample"
    model, processor = build_model("efficientnet_lite0", labels=LABELS)
    fruits = FruitClassifier(model.eval(), processor)
    drawn = [draw_fruit(name, seed=seed) for name in ("Pear", "Kiwi") for seed in range(6)]
    (answers,) = fruits.answer(drawn)
    model.config.reject_below = 0.6
    model.save_pretrained(folder)
    save_prototypes(find_prototypes(answers.features.numpy(), np.arange(12) // 6), folder)
    (folder / "metrics.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def served(trained: Path) -> Iterator[str]:
    demo = launch_demo(str(trained), prevent_thread_lock=True)
    yield demo.local_url
    demo.close(verbose=False)


@pytest.fixture(scope="module")
def client(served: str) -> gradio_client.Client:
    return gradio_client.Client(served, verbose=False, analytics_enabled=False)


def make_artifact(folder: Path, *, age: int, without: str = "") -> Path:
    folder.mkdir(parents=True)
    for name in set(ARTIFACT) - {without}:
        (folder / name).touch()
        os.utime(folder / name, (2_000_000_000 - age,) * 2)
    return folder


def test_the_newest_complete_folder_is_found(tmp_path: Path) -> None:
    make_artifact(tmp_path / "z-old", age=100)
    newest = make_artifact(tmp_path / "a-new", age=10)
    for missing in ARTIFACT:
        make_artifact(tmp_path / f"without-{missing}", age=1, without=missing)
    make_artifact(tmp_path / "z-old" / "checkpoint-7", age=0)
    (tmp_path / "notes.txt").touch()
    assert newest_model(tmp_path) == newest


def test_without_runs_there_is_no_newest_model(tmp_path: Path) -> None:
    assert newest_model(tmp_path) is None
    assert newest_model(tmp_path / "missing") is None


def test_without_a_trained_model_the_page_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    classifier, about = open_model()
    assert "Nothing is trained yet" in about
    assert f"only the {len(classifier.labels)} kinds" in about
    assert "`make train`" in about
    assert "Banana" in classifier.labels


def test_the_newest_trained_model_is_served_and_named(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained.parents[1])
    (trained.parents[1] / "runs").symlink_to(trained.parent)
    classifier, about = open_model()
    assert "`runs/sample`" in about and "6 kinds" in about
    assert classifier.labels == LABELS


def test_examples_show_kinds_that_the_model_knows() -> None:
    known = [draw_fruit("Dragon-Fruit", seed=70_000 + i, size=384) for i in range(3)]
    assert draw_examples(["Pitaya", "Tropical/dragon fruit"], count=3) == known
    assert len(draw_examples(["Car", "Boat"])) == 8


@pytest.mark.parametrize("kind", ["png", "turned jpeg", "16-bit png", "see-through webp", "tiff"])
def test_the_endpoint_answers_what_the_classifier_answers(
    kind: str, client: gradio_client.Client, trained: Path, tmp_path: Path
) -> None:
    path = tmp_path / f"picture.{kind.split()[-1]}"
    image = draw_fruit("Pear", seed=3)
    if kind == "turned jpeg":
        exif = Image.Exif()
        exif[0x0112] = 6  # turned right by 90 degrees
        image.save(path, exif=exif)
    elif kind == "16-bit png":
        Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(path)
    elif kind == "see-through webp":
        image.putalpha(image.convert("L"))
        image.save(path)
    else:
        image.save(path)
    answer, verdict = client.predict(gradio_client.handle_file(path), api_name="/predict")
    expected = FruitClassifier.from_pretrained(trained).predict(path)
    assert answer["label"] == expected.label
    scores = {row["label"]: row["confidence"] for row in answer["confidences"]}
    assert list(scores) == [label for label, _ in expected.top]
    assert scores == pytest.approx(dict(expected.top))
    assert ("Not a fruit I know" in verdict) == (not expected.known)


def test_the_api_is_predict_and_explain_and_described(client: gradio_client.Client) -> None:
    api = client.view_api(return_format="dict", print_info=False)
    assert set(api["named_endpoints"]) == {"/predict", "/explain"}
    assert not api["unnamed_endpoints"]
    endpoint = api["named_endpoints"]["/predict"]
    assert [row["parameter_name"] for row in endpoint["parameters"]] == ["picture"]
    assert "Name the fruit" in endpoint["description"]


def test_what_is_no_fruit_is_not_called_one(
    client: gradio_client.Client, trained: Path, tmp_path: Path
) -> None:
    path = tmp_path / "page.png"
    Image.effect_noise((200, 200), 90).save(path)
    assert not FruitClassifier.from_pretrained(trained).predict(path).known
    _, verdict = client.predict(gradio_client.handle_file(path), api_name="/predict")
    assert "Not a fruit I know" in verdict


def test_the_heatmap_is_that_of_the_classifier(
    client: gradio_client.Client, trained: Path, tmp_path: Path
) -> None:
    path = tmp_path / "pear.png"
    draw_fruit("Pear", seed=3).save(path)
    shown = client.predict(gradio_client.handle_file(path), api_name="/explain")
    expected = FruitClassifier.from_pretrained(trained).explain(path).overlay(448)
    with Image.open(shown if isinstance(shown, str) else shown["path"]) as image:
        assert image.size == expected.size
        off = np.abs(np.asarray(image.convert("RGB"), int) - np.asarray(expected, int))
    assert off.mean() < 6  # it was sent as a JPEG


def test_a_broken_picture_is_told_without_a_traceback_and_the_server_lives_on(
    client: gradio_client.Client, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    text, cut, good = tmp_path / "text.jpg", tmp_path / "cut.jpg", tmp_path / "good.jpg"
    text.write_text("no picture")
    draw_fruit("Kiwi", seed=0).save(good)
    cut.write_bytes(good.read_bytes()[:2000])
    for broken in (text, cut):
        with pytest.raises(gradio_client.exceptions.AppError, match="can't be read") as caught:
            client.predict(gradio_client.handle_file(broken), api_name="/predict")
        assert "/" not in str(caught.value), "the message tells a path of the server"
    assert (
        client.predict(gradio_client.handle_file(good), api_name="/predict")[0]["label"] in LABELS
    )
    assert "Traceback" not in "".join(capfd.readouterr())


def test_files_of_the_server_stay_private(served: str, trained: Path) -> None:
    for path in (ROOT / "app.py", trained / "config.json", "/etc/hostname"):
        assert httpx.get(f"{served}gradio_api/file={path}").status_code in (403, 404)
    picture = trained / "picture.png"  # one that the model could well answer for
    draw_fruit("Kiwi", seed=0).save(picture)
    sent = {"path": str(picture), "meta": {"_type": "gradio.FileData"}}
    started = httpx.post(f"{served}gradio_api/call/predict", json={"data": [sent]})
    events = httpx.get(f"{served}gradio_api/call/predict/{started.json()['event_id']}")
    assert "event: error" in events.text
    assert str(trained) not in events.text and "confidences" not in events.text


def test_uploads_are_bounded(served: str) -> None:
    files = {"files": ("big.jpg", bytes(21_000_000), "image/jpeg")}
    assert httpx.post(f"{served}gradio_api/upload", files=files).status_code == 413


def test_the_app_refuses_a_missing_model_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "app.py", "--model", "./missing"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "./missing: no such folder" in done.stderr


def test_help_loads_neither_gradio_nor_torch() -> None:
    command = [sys.executable, "-X", "importtime", ROOT / "app.py", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "--model" in done.stdout
    assert not re.search(r"\| +(gradio|torch)\b", done.stderr)
