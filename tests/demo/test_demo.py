"""The demo without a browser: which model it serves, its endpoints, its errors, `app.py`."""

import csv
import errno
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import httpx
import numpy as np
import pytest
from PIL import Image
from support import warm
from support.hostile_files import ACCEPTED, REFUSED, ZIPS, image_bytes, zipped
from support.hub_server import Hub
from support.runs import load_benchmark, save_untrained
from support.warm import Warm

gradio = pytest.importorskip("gradio", reason="the demo needs it")
gradio_client = pytest.importorskip("gradio_client", reason="the demo needs gradio")

from support.drawing import draw_fruit  # noqa: E402

from hffruits.cli.main import _PlainFormatter  # noqa: E402
from hffruits.core.errors import InputError  # noqa: E402
from hffruits.demo.app import (  # noqa: E402
    ARTIFACT,
    build_demo,
    launch_demo,
    newest_model,
    open_model,
)
from hffruits.demo.batch_tab import Row, to_csv  # noqa: E402
from hffruits.demo.class_photos import listed_photos  # noqa: E402
from hffruits.demo.model_tab import (  # noqa: E402
    _figures,
    class_gallery,
    model_card,
)
from hffruits.demo.server import (  # noqa: E402
    announce,
    is_private,
    is_shared,
    read_auth,
    translate_launch_errors,
)
from hffruits.demo.teach_tab import Taught, save_below, slug  # noqa: E402
from hffruits.hub.push_model import push  # noqa: E402
from hffruits.inference.classifier import FruitClassifier, Prediction  # noqa: E402
from hffruits.models.examples import Example, save_examples  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
LABELS = ["Apple", "Banana", "Dragon fruit", "Kiwi", "Lemon", "Pear"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_untrained(tmp_path_factory.mktemp("runs") / "sample", LABELS)


@pytest.fixture(scope="module")
def fruits(trained: Path) -> FruitClassifier:
    return FruitClassifier.from_pretrained(trained)


@pytest.fixture(scope="module")
def demo(trained: Path) -> Iterator[gradio.Blocks]:
    demo = launch_demo(str(trained), prevent_thread_lock=True)
    yield demo
    demo.close(verbose=False)


@pytest.fixture(scope="module")
def served(demo: gradio.Blocks) -> str:
    return demo.local_url


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
    classifier, about, _ = open_model()
    assert "Nothing is trained yet" in about
    assert f"only the {len(classifier.labels)} classes" in about
    assert "`make train`" in about
    assert "Banana" in classifier.labels


def test_visitors_do_not_learn_where_the_model_lies(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained)
    for name in (str(trained), ".", f"../{trained.name}"):
        assert f"Predictions come from `{trained.name}`." in open_model(name)[1]


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_as_of_an_unset_variable_is_no_model(name: str) -> None:
    with pytest.raises(InputError, match=r"^model: empty\."):
        open_model(name)


def test_the_newest_trained_model_is_served_and_named(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained.parents[1])
    (trained.parents[1] / "runs").symlink_to(trained.parent)
    classifier, about, _ = open_model()
    assert "`runs/sample`" in about and "6 classes" in about
    assert classifier.labels == LABELS


def test_a_model_of_the_hub_is_linked_and_brings_its_examples(
    trained: Path, tmp_path: Path, local_hub: Hub
) -> None:
    folder = shutil.copytree(trained, tmp_path / "run")
    save_examples([Example("Kiwi", image_bytes())], folder)
    push(folder, "user/fruits")
    classifier, about, place = open_model("user/fruits")
    assert f"[`user/fruits`]({local_hub.url}/user/fruits)" in about
    assert [one.label for one in classifier.examples] == ["Kiwi"]
    assert place == classifier.folder


def test_links_to_the_page_show_its_title_a_sentence_and_an_image(served: str) -> None:
    page = httpx.get(served).text
    assert "<title>What fruit is this?</title>" in page
    assert 'property="og:title" content="What fruit is this?"' in page
    assert re.search(r'name="description" content="Classifies photos of 6 kinds', page)
    assert f'property="og:image" content="{served}preview.jpg"' in page
    assert 'content="Gradio"' not in page
    image = httpx.get(f"{served}preview.jpg")
    assert image.headers["content-type"] == "image/jpeg" and image.content[:2] == b"\xff\xd8"


@pytest.mark.parametrize("kind", ["png", "turned jpeg", "16-bit png", "see-through webp", "tiff"])
def test_the_endpoint_answers_what_the_classifier_answers(
    kind: str, client: gradio_client.Client, fruits: FruitClassifier, tmp_path: Path
) -> None:
    path = tmp_path / f"photo.{kind.split()[-1]}"
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
    expected = fruits.predict(path)
    assert answer["label"] == expected.label
    scores = {row["label"]: row["confidence"] for row in answer["confidences"]}
    assert list(scores) == [label for label, _ in expected.top]
    assert scores == pytest.approx(dict(expected.top))
    assert ("Unknown fruit" in verdict) == (not expected.known)


def test_the_api_is_predict_explain_and_batch_and_described(client: gradio_client.Client) -> None:
    api = client.view_api(return_format="dict", print_info=False)
    assert set(api["named_endpoints"]) == {"/predict", "/explain", "/batch"}
    assert not api["unnamed_endpoints"]
    endpoint = api["named_endpoints"]["/predict"]
    for endpoint in api["named_endpoints"].values():
        names = {row["parameter_name"] for row in endpoint["parameters"]}
        assert names in ({"image"}, {"files"})
        example = json.dumps(endpoint["parameters"][0]["example_input"])
        assert '"url": "photo.jpg"' in example and "http" not in example
        returned = [row["label"] for row in endpoint["returns"]]
        assert not [name for name in returned if re.match(r"(value|param)_?\d", name)]
    endpoint = api["named_endpoints"]["/predict"]
    assert "Name the fruit" in endpoint["description"]


def test_what_is_no_fruit_is_not_called_one(
    client: gradio_client.Client, fruits: FruitClassifier, tmp_path: Path
) -> None:
    path = tmp_path / "page.png"
    Image.effect_noise((200, 200), 90).save(path)
    assert not fruits.predict(path).known
    _, verdict = client.predict(gradio_client.handle_file(path), api_name="/predict")
    assert "Unknown fruit" in verdict


def test_the_heatmap_is_that_of_the_classifier(
    client: gradio_client.Client, fruits: FruitClassifier, tmp_path: Path
) -> None:
    path = tmp_path / "pear.png"
    draw_fruit("Pear", seed=3).save(path)
    shown = client.predict(gradio_client.handle_file(path), api_name="/explain")
    expected = fruits.explain(path).overlay(448)
    with Image.open(shown if isinstance(shown, str) else shown["path"]) as image:
        assert image.size == expected.size
        off = np.abs(np.asarray(image.convert("RGB"), int) - np.asarray(expected, int))
    assert off.mean() < 6  # it was sent as a JPEG


def test_a_model_without_heatmaps_says_why(
    client: gradio_client.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explain(*_) -> None:
        raise InputError("An exported model has no heatmaps. Use the one it was made of.")

    monkeypatch.setattr(FruitClassifier, "explain", explain)
    (tmp_path / "pear.jpg").write_bytes(image_bytes())
    with pytest.raises(gradio_client.exceptions.AppError, match="exported model has no heatmaps"):
        client.predict(gradio_client.handle_file(tmp_path / "pear.jpg"), api_name="/explain")


def test_a_broken_photo_is_refused_without_a_traceback_and_the_server_lives_on(
    client: gradio_client.Client, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    text, cut, good = tmp_path / "text.jpg", tmp_path / "cut.jpg", tmp_path / "good.jpg"
    text.write_text("no image")
    draw_fruit("Kiwi", seed=0).save(good)
    cut.write_bytes(good.read_bytes()[:2000])
    for broken in (text, cut):
        with pytest.raises(gradio_client.exceptions.AppError, match="can't be read") as caught:
            client.predict(gradio_client.handle_file(broken), api_name="/predict")
        assert "/" not in str(caught.value), "the message holds a path of the server"
    assert (
        client.predict(gradio_client.handle_file(good), api_name="/predict")[0]["label"] in LABELS
    )
    assert "Traceback" not in "".join(capfd.readouterr())


def test_files_of_the_server_stay_private(served: str, trained: Path) -> None:
    for path in (ROOT / "app.py", trained / "config.json", "/etc/hostname"):
        assert httpx.get(f"{served}gradio_api/file={path}").status_code in (403, 404)
    photo = trained / "photo.png"  # one that the model could well answer for
    draw_fruit("Kiwi", seed=0).save(photo)
    sent = {"path": str(photo), "meta": {"_type": "gradio.FileData"}}
    answer = httpx.post(f"{served}gradio_api/call/predict", json={"data": [sent]})
    assert answer.status_code == 403 and str(trained) not in answer.text


def test_uploads_are_bounded(served: str) -> None:
    files = {"files": ("big.zip", bytes(105_000_000), "application/zip")}
    assert httpx.post(f"{served}gradio_api/upload", files=files).status_code == 413
    body = {"data": ["x" * 2**20]}
    assert httpx.post(f"{served}gradio_api/call/predict", json=body).status_code == 413


@pytest.mark.parametrize("route", ["run/upload", "api/upload", "call/upload", "call/v2/upload"])
def test_an_endpoint_called_upload_is_bounded_like_any_other(route: str, served: str) -> None:
    big = {"data": ["x" * 2**20]}
    assert httpx.post(f"{served}gradio_api/{route}", json=big).status_code == 413
    address = {"data": ["http://127.0.0.1/a.png"]}
    assert httpx.post(f"{served}gradio_api/{route}", json=address).status_code == 403


def test_files_larger_than_a_request_may_be_are_uploaded(served: str) -> None:
    files = {"files": ("a.jpg", bytes(2**21), "image/jpeg")}
    assert httpx.post(f"{served}gradio_api/upload?upload_id=x", files=files).status_code == 200


@pytest.mark.parametrize("name", [name for name in REFUSED if name != "heavy.jpg"])
def test_a_hostile_file_gets_a_reason_and_no_answer(
    name: str, client: gradio_client.Client, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    make, reason = REFUSED[name]
    (tmp_path / name).write_bytes(make())
    with pytest.raises(gradio_client.exceptions.AppError, match=reason) as caught:
        client.predict(gradio_client.handle_file(tmp_path / name), api_name="/predict")
    assert "/" not in str(caught.value) and "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("name", ACCEPTED)
def test_an_odd_photo_is_answered(
    name: str, client: gradio_client.Client, fruits: FruitClassifier, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(ACCEPTED[name]())
    answer, _ = client.predict(gradio_client.handle_file(path), api_name="/predict")
    assert answer["label"] == fruits.predict(path).label


def test_a_batch_answers_for_each_photo_as_predict_does(
    client: gradio_client.Client, fruits: FruitClassifier, tmp_path: Path
) -> None:
    files = {
        "pear.jpg": image_bytes(),
        "=1+1.jpg": image_bytes("PNG"),
        "broken.jpg": b"no image",
        "fruits.zip": zipped({"deep/kiwi.png": image_bytes("PNG"), "notes.txt": b"x"}),
        "up.zip": ZIPS["up.zip"][0](),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    sent = [gradio_client.handle_file(tmp_path / name) for name in files]
    table, gallery, file, summary = client.predict(sent, api_name="/batch")
    expected = fruits.predict(tmp_path / "pear.jpg")
    assert table["headers"] == ["File", "Class", "Confidence", "Known", "Problem"]
    by_name = {row[0]: row[1:] for row in table["data"]}
    assert by_name["pear.jpg"][:2] == [expected.label, f"{100 * expected.score:.0f} %"]
    assert by_name["kiwi.png"][0] and by_name["broken.jpg"][0] == ""
    assert by_name["pear.jpg"][3] == "" and by_name["broken.jpg"][3].startswith("unreadable: ")
    assert by_name["up.zip"][3] == (
        "unreadable: '../../up.jpg' has '..' in its path. Rename it and pack the folder again."
    )
    assert len(gallery) == 3 and "**2** unreadable" in summary
    rows = list(csv.DictReader(Path(file).read_text("utf-8-sig").splitlines()))
    assert len(rows) == 5
    assert float(rows[0]["score"]) == pytest.approx(expected.score, abs=1e-4)
    assert not [row for row in rows if row["file"].startswith("=")]


def test_a_batch_of_nothing_is_refused(client: gradio_client.Client) -> None:
    with pytest.raises(gradio_client.exceptions.AppError, match="Choose photos"):
        client.predict([], api_name="/batch")


@pytest.mark.parametrize("cell", ["=1+1.jpg", "+1.jpg", "-1.jpg", "@a.jpg"])
def test_no_cell_of_the_csv_is_a_formula(cell: str) -> None:
    found = Prediction(cell, 0.5, ((cell, 0.5),))
    header, row = csv.reader(to_csv([Row(cell, found)]).splitlines())
    assert header == ["file", "label", "score", "known", "error"]
    assert row == [f"'{cell}", f"'{cell}", "0.5000", "True", ""]


@pytest.mark.parametrize(
    "sent",
    [
        {"path": "{}a.png", "meta": {"_type": "gradio.FileData"}},
        {"path": "{}a.png"},
        {"path": "/tmp/a.png", "url": "{}a.png", "meta": {"_type": "gradio.FileData"}},
        "{}a.png",
        "data:image/png;base64,AAAA",
    ],
)
def test_the_server_fetches_no_address(sent: dict | str, served: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        data = json.loads(json.dumps({"data": [sent]}).replace("{}", address))
        started = httpx.post(f"{served}gradio_api/call/predict", json=data)
        if started.status_code == 200:
            event = started.json()["event_id"]
            events = httpx.get(f"{served}gradio_api/call/predict/{event}").text
            assert "event: error" in events and "confidences" not in events
        assert httpx.get(f"{served}gradio_api/file={address}a.png").status_code == 403
        assert httpx.get(f"{served}gradio_api/proxy={address}a.png").status_code == 403
        listening.settimeout(0.2)
        with pytest.raises(TimeoutError):
            listening.accept()


def test_what_was_sent_comes_back_only_as_a_file_that_runs_nothing(served: str) -> None:
    files = {"files": ("page.html", REFUSED["page.html"][0](), "text/html")}
    (path,) = httpx.post(f"{served}gradio_api/upload", files=files).json()
    answer = httpx.get(f"{served}gradio_api/file={path}")
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["content-security-policy"].startswith("sandbox;")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_health_answers_while_photos_are_named(
    served: str, client: gradio_client.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pear.jpg"
    path.write_bytes(image_bytes())
    begun, go_on = threading.Event(), threading.Event()
    predict = FruitClassifier.predict

    def slow_predict(*args, **options) -> Prediction:
        begun.set()
        assert go_on.wait(60)
        return predict(*args, **options)

    monkeypatch.setattr(FruitClassifier, "predict", slow_predict)
    sent = [gradio_client.handle_file(path)]
    with ThreadPoolExecutor(1) as pool:
        naming = pool.submit(client.predict, sent, api_name="/batch")
        try:
            assert begun.wait(60)
            answer = httpx.get(f"{served}health", timeout=30)
            assert not naming.done()
        finally:
            go_on.set()
        assert naming.result()[0]["data"]
    assert answer.json() == {"status": "ok", "model": "sample", "classes": 6} | {
        "version": answer.json()["version"]
    }


@pytest.mark.parametrize("stated", [True, False])
def test_many_files_at_once_are_bounded(
    stated: bool, served: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("hffruits.demo.server.MAX_REQUEST_BYTES", 3000)
    start = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'
    body = [start, *[bytes(1000)] * 9, b"\r\n--x--\r\n"]
    sent = httpx.post(
        f"{served}gradio_api/upload",
        headers={"content-type": "multipart/form-data; boundary=x"},
        content=b"".join(body) if stated else iter(body),
    )
    assert sent.status_code == 413
    assert "Traceback" not in "".join(capfd.readouterr())


def test_visitors_together_cannot_fill_the_disk(
    served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"files": ("a.jpg", image_bytes(), "image/jpeg")}
    assert httpx.post(f"{served}gradio_api/upload", files=files).status_code == 200
    monkeypatch.setattr("hffruits.demo.upload_folder.MAX_BYTES", 100)
    assert httpx.post(f"{served}gradio_api/upload", files=files).status_code == 503


# ---- who may do what ----


@pytest.mark.parametrize(
    ("share", "variables", "private"),
    [
        (False, {}, True),
        (False, {"GRADIO_SERVER_NAME": "127.0.0.1"}, True),
        (False, {"GRADIO_SERVER_NAME": "0.0.0.0"}, False),
        (False, {"GRADIO_SHARE": "True"}, False),
        (True, {}, False),
    ],
)
def test_nothing_is_written_by_default_where_others_reach_the_server(
    share: bool, variables: dict[str, str], private: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GRADIO_SERVER_NAME", "GRADIO_SHARE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_private(is_shared(share)) == private


@pytest.mark.parametrize("variable", [None, "True"])
def test_a_public_link_is_made_only_where_asked_for_also_on_colab(
    variable: str | None, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradio would make one there by itself, and `is_private` not know."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRADIO_SERVER_NAME", raising=False)
    monkeypatch.delenv("GRADIO_SHARE", raising=False)
    if variable:
        monkeypatch.setenv("GRADIO_SHARE", variable)
    given = {}
    monkeypatch.setattr("gradio.Blocks.launch", lambda self, **options: given.update(options))
    monkeypatch.setattr("hffruits.demo.app.announce", lambda *_, **__: None)
    demo = launch_demo(str(trained), prevent_thread_lock=True)
    assert given["share"] is (variable is not None)
    shown = {
        part["props"].get("elem_id")
        for part in demo.get_config_file()["components"]
        if part["props"].get("visible")
    }
    assert ("right" in shown) == ("save" in shown) == (variable is None)


def test_without_permission_nothing_can_be_saved_and_nobody_is_asked(
    fruits: FruitClassifier,
) -> None:
    names = {"save", "right"}
    for folder, shown, hint in ((None, set(), "Saving is off"), (Path("x"), names, "one photo of")):
        demo = build_demo(fruits, feedback_dir=folder, save_dir=folder)
        parts = [part["props"] for part in demo.get_config_file()["components"]]
        found = {part.get("elem_id") for part in parts if part.get("visible")} & names
        assert found == shown
        (saving,) = [part["value"] for part in parts if part.get("elem_id") == "saving"]
        assert hint in saving


def test_the_password_is_read_and_never_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HFFRUITS_AUTH", raising=False)
    assert read_auth(None) is None
    assert read_auth("ann:a:b") == ("ann", "a:b")
    monkeypatch.setenv("HFFRUITS_AUTH", "bob:secret")
    assert read_auth(None) == ("bob", "secret")
    for malformed in ("secret", "secret:", ":secret"):
        with pytest.raises(InputError, match="user:password") as caught:
            read_auth(malformed)
        assert "secret" not in str(caught.value)


def test_with_a_password_only_health_is_open(trained: Path) -> None:
    demo = launch_demo(str(trained), auth="ann:secret", prevent_thread_lock=True)
    try:
        assert httpx.get(f"{demo.local_url}health").json()["status"] == "ok"
        assert httpx.get(f"{demo.local_url}gradio_api/info").status_code == 401
        assert httpx.get(f"{demo.local_url}preview.jpg").status_code == 200  # without photos
        page = httpx.get(demo.local_url).text
        assert "<title>What fruit is this?</title>" in page
        assert not [label for label in LABELS if label in page]
        files = {"files": ("a.jpg", image_bytes(), "image/jpeg")}
        assert httpx.post(f"{demo.local_url}gradio_api/upload", files=files).status_code == 401
        login = {"auth": ("ann", "secret"), "verbose": False, "analytics_enabled": False}
        assert gradio_client.Client(demo.local_url, **login).view_api(return_format="dict")
        with pytest.raises(ValueError, match="login"):
            gradio_client.Client(demo.local_url, **login | {"auth": ("ann", "wrong")})
    finally:
        demo.close(verbose=False)


# ---- teach and model ----


def test_a_taught_model_is_saved_under_a_plain_name_and_never_over_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "hffruits.demo.teach_tab.save_taught", lambda fruits, folder: folder.mkdir()
    )
    taught = Taught(None, ("Kiwi", "../../Käki Ünder"))
    assert save_below(tmp_path, taught) == tmp_path / "taught-kaki-under"
    assert save_below(tmp_path, taught) == tmp_path / "taught-kaki-under-2"
    assert slug("柿") == "fruit" and slug("a" * 99) == "a" * 40
    monkeypatch.setattr("hffruits.demo.teach_tab.MAX_SAVED", 2)
    with pytest.raises(InputError, match="already"):
        save_below(tmp_path, taught)


def test_saved_models_are_bound_by_their_bytes_too(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "taught-kiwi").mkdir()
    (tmp_path / "taught-kiwi" / "model.safetensors").write_bytes(bytes(1000))
    monkeypatch.setattr("hffruits.demo.teach_tab.MAX_SAVED_BYTES", 1000)
    with pytest.raises(InputError, match="1 models are saved here already"):
        save_below(tmp_path, Taught(None, ("Kiwi",)))


def test_the_card_is_shown_without_metadata_and_images(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\ntags: [x]\n---\n# A\n![plot](http://x.org/a.png)\n")
    assert model_card(tmp_path).strip() == "# A\nplot"
    assert model_card(None) == model_card(tmp_path / "missing") == "This model has no card."


@pytest.mark.parametrize(
    "metrics",
    ["[1]", "5", "null", '{"test": "x"}', '{"test": {"images": null}}', '{"test": {}}', "{"],
)
def test_a_strangers_malformed_figures_count_as_none(metrics: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text(metrics)
    assert "not been evaluated" in _figures(tmp_path)


@pytest.fixture
def data(make_folder: Callable) -> Path:
    return make_folder({"train/Red/Apple": 1, "train/Banana": 1})


@pytest.fixture
def artifact(data: Path, tmp_path: Path) -> Path:
    """A folder that says it was trained on photos of two fruits."""
    folder = tmp_path / "artifact"
    (folder / "splits").mkdir(parents=True)
    (folder / "training_args.json").write_text(json.dumps({"data": {"data_dir": str(data)}}))
    lines = ["train/Red/Apple/0.jpg", "train/Banana/0.jpg", "../../secret/Plum/0.jpg"]
    (folder / "splits" / "train.txt").write_text("\n".join(lines))
    return folder


def test_classes_have_a_photo_they_were_trained_on_or_an_example_or_a_letter(
    artifact: Path, data: Path, fruits: FruitClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = ["Red/Apple", "Banana", "Kiwi", "<b>Plum"]
    photos = listed_photos(labels, artifact, data, "train")
    assert {label: path.parent.name for label, path in photos.items()} == {
        "Red/Apple": "Apple",
        "Banana": "Banana",
    }
    monkeypatch.setattr(fruits, "labels", labels)
    monkeypatch.setattr(fruits, "examples", [Example("Kiwi", image_bytes())])
    shown = class_gallery(fruits, artifact, data)
    assert shown.count("<img") == 3 and shown.count("data:image/jpeg") == 3
    assert "&lt;b&gt;Plum" in shown and "<b>" not in shown


def test_a_class_has_its_photo_also_where_case_and_spaces_differ(
    artifact: Path, data: Path
) -> None:
    labels = ["red/ apple", "BANANA"]
    assert set(listed_photos(labels, artifact, data, "train")) == set(labels)


def test_no_file_outside_the_training_data_is_shown(
    artifact: Path, data: Path, tmp_path: Path
) -> None:
    secret = data / "../../secret/Plum"
    secret.mkdir(parents=True, exist_ok=True)
    draw_fruit("Kiwi", seed=0, size=64).save(secret / "0.jpg")
    (data / "link").symlink_to(secret)
    lists = ["../../secret/Plum/0.jpg", f"{secret}/0.jpg", "link/Plum/0.jpg", "link/0.jpg"]
    for line in (*lists, "Plum/\0.jpg", f"Plum/{'a' * 5000}.jpg", "Plum"):
        (artifact / "splits" / "train.txt").write_text(line)
        assert listed_photos(["Plum", "link"], artifact, data, "train") == {}


@pytest.mark.parametrize("named", ["{data}", ".", "..", "/", "fruits"])
def test_no_photo_is_shown_of_a_folder_that_only_the_model_names(
    named: str,
    artifact: Path,
    data: Path,
    fruits: FruitClassifier,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(data.parent)
    monkeypatch.setattr(fruits, "labels", ["Banana", "Red/Apple"])
    record = {"data": {"data_dir": named.format(data=data)}, "data_path": str(data)}
    (artifact / "training_args.json").write_text(json.dumps(record))
    assert listed_photos(["Banana"], artifact, None, "test") == {}
    assert class_gallery(fruits, artifact, None).count("<img") == 0


@pytest.mark.parametrize("name", ["README.md", "report.html", "metrics.json"])
def test_a_models_link_out_of_its_folder_is_not_shown(
    name: str, fruits: FruitClassifier, tmp_path: Path
) -> None:
    folder = tmp_path / "stranger"
    folder.mkdir()
    (tmp_path / "secret").write_text('{"test": {"images": 4711, "accuracy": "4711"}}')
    (folder / name).symlink_to(tmp_path / "secret")
    demo = build_demo(fruits, artifact=folder)
    describe = next(fn for fn in demo.fns.values() if fn.name == "describe")
    assert not [shown for shown in describe.fn() if "4711" in shown]
    assert "open-report" not in str(demo.get_config_file()["components"])


def test_the_card_names_no_folder_of_this_machine_whatever_the_models_record_is(
    tmp_path: Path,
) -> None:
    (tmp_path / "README.md").write_text(f"Trained on /srv/photos/Fig/1.jpg and {tmp_path}.")
    for record in ("[]", "{", '{"data": [], "training": 3}', '{"data_path": 5}'):
        (tmp_path / "training_args.json").write_text(record)
        assert model_card(tmp_path) == f"Trained on /srv/photos/Fig/1.jpg and {tmp_path.name}."
    (tmp_path / "training_args.json").write_text('{"data_path": "/srv/photos"}')
    assert model_card(tmp_path) == f"Trained on Fig/1.jpg and {tmp_path.name}."


def test_a_snapshot_of_the_hub_whose_files_are_links_is_shown(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "0a").write_text("# A card")
    folder = tmp_path / "snapshots" / "1b"
    folder.mkdir(parents=True)
    (folder / "README.md").symlink_to("../../blobs/0a")
    assert model_card(folder) == "# A card"
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to("../../../../etc/hostname")
    assert model_card(folder) == "This model has no card."


def test_a_data_folder_that_is_missing_is_refused_at_the_start(trained: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        launch_demo(str(trained), data_dir=Path("missing"), prevent_thread_lock=True)


# ---- benchmarks/load.py ----


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load_benchmark("load", monkeypatch)


def test_the_load_test_judges_responses(load) -> None:
    answer = [{"confidences": [{"label": "Kiwi", "confidence": 0.9}]}, ""]
    assert load.judge("complete", answer, {"Kiwi": 0.9}) == "correct"
    assert load.judge("complete", answer, {"Kiwi": 0.8}) == "wrong"
    assert load.judge("complete", answer, {"Pear": 0.9}) == "wrong"
    assert load.judge("complete", answer, None) == "wrong"
    assert load.judge("error", "This photo can't be read", None) == "rejected"
    assert load.judge("error", "This photo can't be read", {"Kiwi": 0.9}) == "error"
    assert load.judge("error", "The queue is full", {"Kiwi": 0.9}) == "busy"


def test_the_load_test_fails_on_wrong_responses_errors_and_a_dead_server(load) -> None:
    tally = load.Tally(0.0)
    for kind in ("correct", "rejected", "busy"):
        tally.add(kind, 0.5)
    assert load.failures(tally, 0) == []
    assert load.failures(tally, -9) == ["the server exited with code -9"]
    tally.add("wrong", 1.0)
    tally.add("ReadTimeout", 1.0)
    assert load.failures(tally, 0) == ["1 wrong", "1 ReadTimeout"]


def test_the_load_test_reports_latency_and_the_memory_of_its_first_and_last_minute(
    load, tmp_path: Path
) -> None:
    tally = load.Tally(0.0, memory=[(when, 100.0 + when) for when in range(301)])
    for seconds in range(1, 101):
        tally.add("correct", seconds / 100)
    first, second, third = load.summarise(tally, 32, 50.0).splitlines()
    assert first == "32 clients, 50 s: 100 correct"
    assert "0.51 s (p50), 0.95 s (p95), 0.99 s (p99), 2.0 per second" in second
    assert third == "memory: 130 MB in the first minute, 370 MB in the last, 400 MB at most"
    load.draw(tally, tmp_path / "load.png")
    assert (tmp_path / "load.png").stat().st_size


def test_the_load_test_reports_a_lack_of_correct_responses(load, tmp_path: Path) -> None:
    tally = load.Tally(0.0)
    assert load.summarise(tally, 1, 5.0) == "1 clients, 5 s: no requests"
    assert load.failures(tally, 0) == ["no correct response"]
    load.draw(tally, tmp_path / "load.png")


def test_the_load_test_expects_of_odd_files_what_the_demo_opens(
    load, fruits: FruitClassifier, tmp_path: Path
) -> None:
    sent = load.find_expected(fruits, tmp_path, "pages.tiff", ACCEPTED["pages.tiff"]())
    assert sent.expected == dict(fruits.predict(tmp_path / "pages.tiff").top)


# ---- app.py ----


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_quickly_and_leaves_nothing_behind(sign, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "temporary").mkdir()
    surroundings = {"GRADIO_SERVER_PORT": str(port), "TMPDIR": str(tmp_path / "temporary")}
    known = {k: v for k, v in os.environ.items() if k != "GRADIO_TEMP_DIR"}
    output = tmp_path / "output.txt"
    server = Warm([ROOT / "app.py"], cwd=tmp_path, env=known | surroundings, output=output)
    try:
        url = f"http://127.0.0.1:{port}/"
        deadline = time.monotonic() + 90
        while not _is_up(url):
            assert server.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
        many = zipped(dict.fromkeys((f"{number}.jpg" for number in range(200)), image_bytes()))
        (tmp_path / "many.zip").write_bytes(many)
        client = gradio_client.Client(url, verbose=False, analytics_enabled=False)
        client.submit([gradio_client.handle_file(tmp_path / "many.zip")], api_name="/batch")
        while not list((tmp_path / "temporary").glob("hffruits-demo-*/hffruits-batch-*")):
            assert server.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        server.send_signal(sign)
        server.wait(timeout=20)
    finally:
        server.send_signal(signal.SIGKILL)
    assert server.returncode == 0
    assert "Traceback" not in output.read_text()
    assert not list((tmp_path / "temporary").glob("hffruits-*"))


def _is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}health").status_code == 200
    except httpx.TransportError:
        return False


def test_the_terminal_says_where_the_page_is_in_our_own_words(
    trained: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture
) -> None:
    with caplog.at_level("INFO", "hffruits.demo"):
        demo = launch_demo(str(trained), prevent_thread_lock=True)
    demo.close(verbose=False)
    assert f"Demo      serves at {demo.local_url} (Ctrl-C ends it)" in caplog.messages
    assert [line for line in caplog.messages if line.startswith("Public    only with share=True")]
    formatted = [_PlainFormatter("demo").format(record) for record in caplog.records]
    assert [line for line in formatted if line.startswith("Public    only with --share:")]
    assert "share=True" not in "".join(capfd.readouterr())  # gradio's own hint


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(98, "Address already in use"), r"^port=7861: .*\(Address already in use\)"),
        (FileNotFoundError(2, "No such file", "a.pem"), r"^port=7861: .*\(No such file\)"),
        (OSError("Cannot find empty port in range: 1-2. Pass `server_port`"), r"\(taken meanwhile"),
        (ValueError("localhost is not accessible"), r"^http://127.0.0.1:7861/: .* share=True"),
    ],
)
def test_a_page_that_cannot_be_served_gets_the_reason(error: Exception, said: str) -> None:
    with pytest.raises(InputError, match=said) as raised, translate_launch_errors(7861):
        raise error
    assert "server_port" not in str(raised.value)


def test_a_full_disk_is_not_taken_for_a_matter_of_the_port() -> None:
    with pytest.raises(OSError, match="No space left") as raised, translate_launch_errors(7861):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not isinstance(raised.value, InputError)


@pytest.mark.parametrize(
    ("variables", "opens"),
    [({"DISPLAY": ":0"}, True), ({"WAYLAND_DISPLAY": "wayland-0"}, True), ({}, False)],
)
def test_a_browser_is_opened_where_asked_for_and_there_is_a_display(
    variables: dict[str, str], opens: bool, demo: gradio.Blocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    announce(demo, shared=False, open_browser=False)
    assert opened == []
    announce(demo, shared=False, open_browser=True)
    assert opened == [demo.local_url] * opens


@pytest.mark.slow
def test_the_app_refuses_a_missing_model_in_one_line(tmp_path: Path) -> None:
    command = [ROOT / "app.py", "--model", "./missing"]
    done = warm.run(command, cwd=tmp_path, folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "./missing: no such folder" in done.stderr


def test_help_loads_neither_gradio_nor_torch() -> None:
    command = [sys.executable, "-X", "importtime", ROOT / "app.py", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "--model" in done.stdout
    assert not re.search(r"\| +(gradio|torch)\b", done.stderr)


def test_the_servers_own_statistics_stay_few(demo: gradio.Blocks) -> None:
    """Gradio makes a table of all of them after each event."""
    assert demo._queue.ANALYTICS_MAX_EVENTS == 100
