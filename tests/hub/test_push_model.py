"""Models pushed to a Hub: what is published, atomically, and loaded again."""

import html
import io
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from PIL import Image
from support import warm
from support.drawing import draw_fruit
from support.hub_server import OTHER_TOKEN, READ_TOKEN, TOKEN, Fault, Hub, Repo
from support.runs import REPO_ID, UNTRAINED_LABELS, put, save_untrained, tiny_arguments
from support.warm import Warm
from transformers import ViTConfig, ViTForImageClassification

from hffruits import FruitClassifier, InputError
from hffruits.data.arguments import SAMPLE, DataArguments
from hffruits.exporters.run import export
from hffruits.hub.commit import Repository
from hffruits.hub.push_model import push
from hffruits.hub.redaction import Redaction
from hffruits.inference.few_shot import save_taught, teach
from hffruits.models.examples import load_examples
from hffruits.models.fetching import fetch_model
from hffruits.models.loading import load_folder
from hffruits.models.model_card import model_card
from hffruits.training.run import train


@pytest.fixture
def photo(tmp_path) -> Path:
    draw_fruit("Pear", seed=3).save(tmp_path / "photo.jpg")
    return tmp_path / "photo.jpg"


def files_of(hub: Hub, name: str = REPO_ID, kind: str = "model") -> dict[str, bytes]:
    return hub.repos[kind, name].files


def commits_of(hub: Hub, name: str = REPO_ID) -> int:
    return len(hub.repos["model", name].commits)


# ---- what is published ----


def test_a_pushed_run_is_loaded_again_and_says_the_same(local_hub, trained, photo):
    pushed = push(trained, "fruits", license="apache-2.0")
    assert pushed.repo_id == REPO_ID and pushed.changed and pushed.url.endswith(REPO_ID)
    here, there = (FruitClassifier.from_pretrained(name) for name in (trained, REPO_ID))
    assert there.predict(photo) == here.predict(photo)
    assert there.ood_threshold == here.ood_threshold and there.prototypes is not None


def test_the_files_are_those_that_loading_judging_and_repeating_need(local_hub, trained):
    push(trained, REPO_ID)
    assert set(files_of(local_hub)) == {
        *(".gitattributes", "README.md", "config.json", "model.safetensors", "metrics.json"),
        *("training_args.json", "log_history.json", "prototypes.safetensors", "report.html"),
        *("evaluation.png", "examples/labels.json"),
        *(f"examples/{number}.jpg" for number in range(1, 5)),
    }


def test_nothing_published_says_where_things_lie_here(
    local_hub, trained, drawn_fruits, tmp_path, monkeypatch
):
    """Neither in fields for paths, nor within texts, escaped or not."""
    home = tmp_path / "Zoë & co"
    monkeypatch.setattr(Path, "home", lambda: home)
    run = shutil.copytree(trained, home / "run")
    arguments = json.loads((run / "training_args.json").read_text())
    arguments["data"] |= {"data_dir": "~/fruits", "exclude": str(home / "lists/exclude.txt")}
    arguments["data"]["coarse_labels"] = "../zoe/coarse.csv"
    arguments["command"] = f"hffruits train '{home}/fruits' --output_dir '{run}'"
    (run / "training_args.json").write_text(json.dumps(arguments))
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["data"]["skipped"] = [{"path": "a.jpg", "reason": f"cannot open '{home}/fruits/a.jpg'"}]
    (run / "metrics.json").write_text(json.dumps(metrics))
    page = (run / "report.html").read_text()
    (run / "report.html").write_text(f"{page}<p>{html.escape(str(home))}/fruits/x.jpg</p>")
    push(run, REPO_ID)
    for name, content in files_of(local_hub).items():
        text = content.decode("utf-8", "ignore")
        for place in (drawn_fruits, trained, home, trained.parent):
            for form in (str(place), html.escape(str(place)), json.dumps(str(place))[1:-1]):
                assert form not in text, (name, form)
        assert "~/" not in text or name not in ("training_args.json", "README.md")
    published = json.loads(files_of(local_hub)["training_args.json"])
    assert published["data"]["data_dir"] == "fruits"
    assert published["data"]["exclude"] == "exclude.txt"
    assert published["data"]["coarse_labels"] == "coarse.csv"
    assert published["command"] == "hffruits train 'fruits' --output_dir 'run'"
    published = json.loads(files_of(local_hub)["metrics.json"])
    assert published["data"]["skipped"][0]["reason"] == "cannot open 'fruits/a.jpg'"
    assert files_of(local_hub)["report.html"].endswith(b"<p>fruits/x.jpg</p>")


def test_a_user_without_a_home_pushes_too(local_hub, untrained, monkeypatch):
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    assert push(untrained, REPO_ID).changed


@pytest.mark.parametrize("name", ["report.html", "training_args.json", "prototypes.safetensors"])
def test_a_link_out_of_the_folder_is_not_published(local_hub, untrained, tmp_path, name):
    """A stranger's folder may hold one to any file of this machine."""
    run = shutil.copytree(untrained, tmp_path / "run")
    (tmp_path / "secret").write_text("{}")
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(tmp_path / "secret")
    with pytest.raises(InputError, match=f"{name}: links to a file elsewhere"):
        push(run, REPO_ID)
    assert ("model", REPO_ID) not in local_hub.repos or not commits_of(local_hub)


def test_names_of_classes_and_images_are_not_taken_for_places():
    redaction = Redaction((Path("/d"), Path("/m")))
    record = {"id2label": {"0": "/m/014j1m"}, "label2id": {"/m/014j1m": 0}}
    assert Redaction((Path("/home/zoe"),)).in_record(record) == record
    image = '<img src="data:image/png;base64,AAAA/d/mA/d">'
    assert redaction.in_page(f"{image} /d/x /d") == f"{image} x d"


def test_without_the_report_no_photo_is_published(local_hub, trained):
    push(trained, REPO_ID)
    put({"examples/usage.py": b"", "examples/99.jpg": b""})
    push(trained, REPO_ID, report=False)
    assert not [name for name in files_of(local_hub) if "report.html" in name or "jpg" in name]
    assert "examples/labels.json" not in files_of(local_hub)
    assert "examples/usage.py" in files_of(local_hub)  # someone else's
    assert "report.html" not in files_of(local_hub)["README.md"].decode()


def test_a_push_says_which_photos_it_publishes(local_hub, trained, caplog):
    with caplog.at_level("INFO", "hffruits.hub.push_model"):
        push(trained, REPO_ID, report=False)
        assert "published" not in caplog.text
        push(trained, REPO_ID)
    assert "4 photos in examples/ and those in report.html are published (report=False" in (
        caplog.text
    )


def test_an_example_that_links_elsewhere_is_not_published(local_hub, trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "secret").write_text("secret")
    (run / "examples" / "1.jpg").unlink()
    (run / "examples" / "1.jpg").symlink_to(tmp_path / "secret")
    push(run, REPO_ID)
    assert b"secret" not in files_of(local_hub).values()
    labels = json.loads(files_of(local_hub)["examples/labels.json"])
    assert sorted(labels) == ["1.jpg", "2.jpg", "3.jpg"]


def test_examples_are_published_as_new_photos_without_metadata(
    local_hub, trained, tmp_path, caplog
):
    run = shutil.copytree(trained, tmp_path / "run")
    exif = Image.Exif()
    exif[0x010E] = "at home"
    exif.get_ifd(0x8825)[1] = "N"  # GPS
    draw_fruit("Kiwi", seed=1).save(run / "examples/1.jpg", exif=exif, comment=b"mine")
    (run / "examples/2.jpg").write_text("a letter")
    push(run, REPO_ID)
    published = files_of(local_hub)
    with Image.open(io.BytesIO(published["examples/1.jpg"])) as photo:
        assert not photo.getexif() and "comment" not in photo.info
    assert not [name for name, content in published.items() if content == b"a letter"]
    assert len(json.loads(published["examples/labels.json"])) == 3
    assert "2.jpg: not published" in caplog.text


def test_examples_are_fetched_when_they_are_asked_for(local_hub, trained):
    push(trained, REPO_ID)
    fruits = FruitClassifier.from_pretrained(REPO_ID)
    assert not load_examples(fruits.folder)
    assert [one.label for one in fruits.examples] == [one.label for one in load_examples(trained)]


def test_what_is_taught_to_or_exported_from_a_hub_model_keeps_its_examples(
    local_hub, trained, tmp_path
):
    push(trained, REPO_ID)
    published = files_of(local_hub)
    labels = json.loads(published["examples/labels.json"])
    own = [(label, published[f"examples/{name}"]) for name, label in labels.items()]
    photos = [draw_fruit("Kiwi", seed=seed) for seed in range(2)]
    teach(REPO_ID, "Kiwi", photos, output_dir=tmp_path / "taught")
    export(REPO_ID, format="onnx", output_dir=tmp_path / "exported", force=True)
    taught, exported = (
        [(one.label, one.photo.read_bytes()) for one in load_examples(tmp_path / name)]
        for name in ("taught", "exported")
    )
    assert own and exported == own and taught[:-1] == own and taught[-1][0] == "Kiwi"


def test_examples_that_cannot_be_had_are_warned_of(local_hub, trained, caplog):
    push(trained, REPO_ID)
    fruits = FruitClassifier.from_pretrained(REPO_ID)
    del local_hub.repos["model", REPO_ID]
    assert fruits.examples == []
    assert f"{REPO_ID}: its example photos can't be had" in caplog.text


def test_a_card_of_ones_own_is_taken_as_it_is(local_hub, untrained, tmp_path):
    (tmp_path / "card.md").write_text("---\nlicense: mit\n---\nMine\n")
    push(untrained, REPO_ID, card=tmp_path / "card.md")
    assert files_of(local_hub)["README.md"] == b"---\nlicense: mit\n---\nMine\n"


def test_a_card_of_ones_own_has_its_own_license(local_hub, untrained, tmp_path):
    for more in ({"license": "mit"}, {"datasets": ("user/photos",)}):
        with pytest.raises(InputError, match="license and dataset belong in"):
            push(untrained, REPO_ID, card=tmp_path / "card.md", **more)
    assert not local_hub.repos


def test_the_license_of_an_earlier_push_holds_until_another_is_given(local_hub, untrained):
    push(untrained, REPO_ID, license="mit")
    assert not push(untrained, REPO_ID).changed
    push(untrained, REPO_ID, license="apache-2.0")
    assert ModelCard(files_of(local_hub)["README.md"].decode()).data.license == "apache-2.0"


def test_a_data_set_that_the_hub_lacks_is_not_named(local_hub, untrained):
    with pytest.raises(InputError, match="user/nope: no such Hub dataset"):
        push(untrained, REPO_ID, datasets=("user/nope",))


def test_a_private_push_makes_a_private_repository(local_hub, untrained, monkeypatch):
    push(untrained, REPO_ID, private=True)
    assert local_hub.repos["model", REPO_ID].private
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(InputError, match="or a private one"):
        fetch_model(REPO_ID)


# ---- the card ----


def test_the_card_passes_the_hubs_own_check_and_holds_the_measured_figures(local_hub, trained):
    local_hub.repos["dataset", "user/photos"] = Repo({"README.md": b""})
    push(trained, REPO_ID, license="apache-2.0", datasets=("user/photos",))
    card = ModelCard(files_of(local_hub)["README.md"].decode())
    card.validate()
    metrics = json.loads((trained / "metrics.json").read_text())
    found = {(r.dataset_split, r.metric_type): r.metric_value for r in card.data.eval_results}
    assert found["test", "accuracy"] == round(metrics["test"]["accuracy"], 4)
    assert found["validation", "f1"] == round(metrics["validation"]["macro_f1"], 4)
    assert card.data.base_model == "timm/tf_efficientnet_lite0.in1k"
    assert card.data.datasets == ["user/photos"] and card.data.license == "apache-2.0"
    for part in ("Limitations", "Training data", "Training procedure", "evaluation.png"):
        assert part in card.text
    low, high = metrics["test"]["intervals"]["accuracy"]
    assert f"({100 * low:.1f} to {100 * high:.1f})" in card.text
    (row,) = (line for line in card.text.splitlines() if line.startswith("| test |"))
    assert row.count(" to ") == 4  # each has its interval: accuracy, top-5, macro-F1, ECE


@pytest.mark.slow
def test_the_cards_three_ways_to_load_give_the_same_answer(local_hub, trained, photo):
    """Without hffruits where it can be, then without a network."""
    push(trained, REPO_ID)
    ways = re.findall(r"```python\n(.*?)```", files_of(local_hub)["README.md"].decode(), re.S)
    assert len(ways) == 3
    label = FruitClassifier.from_pretrained(trained).predict(photo).label
    environment = local_hub.environment(photo.parent / "home")
    hidden = "import sys\nsys.modules['hffruits'] = None\n"
    plain = ways[1].replace('pipeline("im', 'answer = pipeline("im') + "print(answer[0]['label'])\n"
    shown = "\ndel sys.modules['hffruits']\n"
    online = warm.run(
        ["-c", hidden + plain], env=environment, cwd=photo.parent, folder=photo.parent
    )
    assert online.stdout.count(label) == 1, online.stderr
    offline = subprocess.run(
        [sys.executable, "-c", hidden + plain + ways[2] + shown + ways[0]],
        env=environment | {"HF_HUB_OFFLINE": "1"},
        cwd=photo.parent,
        capture_output=True,
        text=True,
    )
    assert offline.stdout.count(label) == 3, offline.stderr


def test_a_card_of_a_net_without_timms_record_and_of_odd_classes_is_whole(tmp_path):
    labels = {0: "Kiwi | green", 1: "Apple\n# Red", 2: "/m/014j1m"}
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = ViTConfig(image_size=32, intermediate_size=8, id2label=labels, **sizes)
    ViTForImageClassification(config).save_pretrained(tmp_path)
    card = model_card(tmp_path, repo_id=REPO_ID)
    assert r"Classes: Kiwi \| green, Apple \# Red, /m/014j1m." in card.text
    assert "timm" not in card.text and "None" not in card.text
    assert "are not recorded" in card.text and card.data.base_model is None


def test_a_model_trained_by_an_older_version_is_pushed_too(local_hub, trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "old")
    metrics = json.loads((run / "metrics.json").read_text())
    del metrics["versions"], metrics["data"]["images_per_class"], metrics["model"]["hub_id"]
    del metrics["data"]["dropped_classes"]
    metrics["test"]["accuracy"] = 0.95  # so that the card has accuracies at coverages
    for split in ("validation", "test"):
        del metrics[split]["accuracy_at_coverage_intervals"]
        for name in ("top5_accuracy", "ece", "ece_uncalibrated"):
            del metrics[split]["intervals"][name]
    (run / "metrics.json").write_text(json.dumps(metrics))
    (run / "evaluation.png").unlink()
    arguments = json.loads((run / "training_args.json").read_text())
    del arguments["command"]
    (run / "training_args.json").write_text(json.dumps(arguments))
    push(run, REPO_ID)
    card = files_of(local_hub)["README.md"].decode()
    assert "evaluation.png" not in card and "None" not in card.replace("[None]", "")
    assert ModelCard(card).data.base_model == "timm/tf_efficientnet_lite0.in1k"


def test_the_card_names_origin_and_license_of_the_sample_photos(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    assert "Grocery Store" not in model_card(run).text
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["data"]["data_dir"] = SAMPLE
    (run / "metrics.json").write_text(json.dumps(metrics))
    text = model_card(run).text
    assert "training images of the sample set" in text
    assert (
        "They are from the [Grocery Store Dataset]"
        "(https://github.com/marcusklasson/GroceryStoreDataset) (Klasson, Zhang and" in text
    )
    assert "WACV 2019), MIT license." in text


@pytest.mark.parametrize("base", ["vit-base", "~/vit", "/gone/vit"])
def test_a_base_model_that_is_not_on_the_hub_is_not_named_in_the_card(trained, tmp_path, base):
    run = shutil.copytree(trained, tmp_path / "run")
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["model"] |= {"name_or_path": base, "hub_id": None}
    (run / "metrics.json").write_text(json.dumps(metrics))
    assert model_card(run).data.base_model is None


def test_a_taught_model_is_pushed_with_a_card_of_its_own(local_hub, untrained, tmp_path, photo):
    images = [draw_fruit("Cherry", seed=seed) for seed in range(4)]
    taught = teach(FruitClassifier.from_pretrained(untrained), "Cherry", images)
    save_taught(taught, tmp_path / "taught")
    push(tmp_path / "taught", REPO_ID)
    there = FruitClassifier.from_pretrained(REPO_ID)
    assert there.labels == [*UNTRAINED_LABELS, "Cherry"]
    assert there.predict(photo).label == taught.predict(photo).label
    assert "| Cherry | 4 |" in files_of(local_hub)["README.md"].decode()


def test_what_was_taught_to_a_hub_model_names_it(local_hub, untrained, tmp_path):
    push(untrained, REPO_ID)
    images = [draw_fruit("Cherry", seed=seed) for seed in range(4)]
    taught = teach(FruitClassifier.from_pretrained(REPO_ID), "Cherry", images)
    save_taught(taught, tmp_path / "taught")
    card = model_card(tmp_path / "taught")
    assert f"`{REPO_ID}` with 1 new class" in card.text and card.data.base_model == REPO_ID


@pytest.mark.slow
def test_an_export_is_pushed_and_answers_from_there(local_hub, tmp_path, photo, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr("hffruits.exporters.run.PER_CLASS", 1)
    small = save_untrained(tmp_path / "small", UNTRAINED_LABELS, net="test_efficientnet")
    export(small, DataArguments(), format="onnx", output_dir=tmp_path / "onnx", force=True)
    push(tmp_path / "onnx", REPO_ID)
    here, there = (FruitClassifier.from_pretrained(name) for name in (tmp_path / "onnx", REPO_ID))
    assert there.predict(photo) == here.predict(photo)
    card = files_of(local_hub)["README.md"].decode()
    assert "exported with `hffruits` to onnx in fp32" in card and "pipeline(" not in card


def test_weights_in_several_files_are_pushed_whole_or_refused(local_hub, untrained, tmp_path):
    run = shutil.copytree(untrained, tmp_path / "run")
    load_folder(run)[0].save_pretrained(run, max_shard_size="3MB")
    (run / "model.safetensors").unlink()
    shards = sorted(file.name for file in run.glob("model-*.safetensors"))
    assert len(shards) > 2
    push(run, REPO_ID)
    assert set(shards) < set(files_of(local_hub))
    assert FruitClassifier.from_pretrained(REPO_ID).labels == UNTRAINED_LABELS
    (run / shards[1]).unlink()
    with pytest.raises(InputError, match=f"{shards[1]} is missing"):
        push(run, REPO_ID)


# ---- again, and other files there ----


def test_the_same_push_again_makes_no_commit_and_sends_no_weights(local_hub, untrained):
    first = push(untrained, REPO_ID)
    sent = local_hub.count("PUT", "/lfs/")
    second = push(untrained, REPO_ID)
    assert not second.changed and second.commit == first.commit
    assert local_hub.count("PUT", "/lfs/") == sent and sent > 0


def test_files_of_an_earlier_model_go_and_a_users_own_stay(local_hub, untrained):
    push(untrained, REPO_ID)
    put({"notes.txt": b"mine", "model.onnx": b"an old export"})
    push(untrained, REPO_ID)
    assert "notes.txt" in files_of(local_hub) and "model.onnx" not in files_of(local_hub)


# ---- faults ----


@pytest.fixture
def own_model(untrained, tmp_path) -> Path:
    """A copy that a test may change: `untrained` is shared by all processes of the run."""
    return Path(shutil.copytree(untrained, tmp_path / "own"))


def rename_kiwi(model: Path) -> None:
    config = model / "config.json"
    config.write_bytes(config.read_bytes().replace(b'"Kiwi"', b'"Kiwis"'))


@pytest.mark.parametrize(
    "fault",
    [
        Fault("/commit/", status=503, times=2),
        Fault("/commit/", status=429, headers={"Retry-After": "0"}),
        Fault("/commit/", lose_answer=True),
        Fault("/commit/", cut_after=200),
        Fault("whoami", status=500),
        Fault("/lfs/", method="PUT", cut_after=1000),
        Fault("/preupload/", delay=0.3),
    ],
    ids=["503", "429", "answer lost", "cut", "who", "upload cut", "slow"],
)
def test_a_transient_fault_is_retried_and_one_commit_is_made(local_hub, own_model, fault):
    push(own_model, REPO_ID)
    rename_kiwi(own_model)
    before = commits_of(local_hub)
    local_hub.faults.append(fault)
    local_hub.repos["model", REPO_ID].objects.clear()  # so that weights are sent
    assert push(own_model, REPO_ID).changed
    assert fault.times <= 0, "the fault did not happen"
    assert commits_of(local_hub) == before + 1


def test_a_push_that_fails_leaves_the_repository_as_it_was_and_the_next_sends_less(
    local_hub, own_model
):
    push(own_model, "user/other")
    head = push(own_model, REPO_ID).commit
    rename_kiwi(own_model)
    before = dict(files_of(local_hub))
    local_hub.repos["model", REPO_ID].objects.clear()
    local_hub.faults.append(Fault("/commit/", status=500, times=3))
    with pytest.raises(InputError, match="the Hub returned 500") as raised:
        push(own_model, REPO_ID)
    assert "\n" not in str(raised.value)
    assert files_of(local_hub) == before
    sent = local_hub.count("PUT", "/lfs/")
    assert push(own_model, REPO_ID).commit != head
    assert local_hub.count("PUT", "/lfs/") == sent  # all was there


@pytest.mark.slow
def test_a_killed_push_leaves_the_repository_as_it_was(local_hub, untrained, tmp_path):
    push(untrained, REPO_ID, report=False)
    repo = local_hub.repos["model", REPO_ID]
    repo.objects.clear()
    put({"model.safetensors": b"others", "config.json": b"{}"})
    before = dict(repo.files)
    local_hub.faults.append(Fault("/lfs/", method="PUT", delay=30, times=9))
    process = Warm(
        ["hffruits", "push", untrained, REPO_ID],
        env=local_hub.environment(tmp_path / "home"),
        output=tmp_path / "log.txt",
    )
    deadline = time.monotonic() + 60
    asked = local_hub.count("POST", "/objects/batch")
    while local_hub.count("POST", "/objects/batch") == asked and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert time.monotonic() < deadline and repo.files == before
    local_hub.faults.clear()
    assert push(untrained, REPO_ID).changed and repo.files != before


def test_what_someone_else_pushed_meanwhile_is_not_overwritten(local_hub, untrained, monkeypatch):
    push(untrained, REPO_ID)
    commit = Repository.commit

    def late(self, *arguments, **options):
        put({"config.json": b"{}"})
        return commit(self, *arguments, **options)

    monkeypatch.setattr(Repository, "commit", late)
    with pytest.raises(InputError, match="changed on the Hub in the meantime"):
        push(untrained, REPO_ID)
    assert files_of(local_hub)["config.json"] == b"{}"


def test_what_comes_between_two_tries_is_not_overwritten(local_hub, untrained, monkeypatch):
    push(untrained, REPO_ID)
    (local_hub.repos["model", REPO_ID]).objects.clear()
    put({"config.json": b"{}"})
    local_hub.faults.append(Fault("/commit/", status=503))
    monkeypatch.setattr("time.sleep", lambda _: put({"notes.txt": b"between"}))
    with pytest.raises(InputError, match="changed on the Hub in the meantime"):
        push(untrained, REPO_ID)
    assert files_of(local_hub)["config.json"] == b"{}"


# ---- what can't be pushed ----


REFUSED = {
    "no login": ({}, REPO_ID, {}, "pushing needs a login"),
    "wrong token": ({"HF_TOKEN": "hf_nobody_knows_it"}, REPO_ID, {}, "rejects this token"),
    "reads only": ({"HF_TOKEN": READ_TOKEN}, REPO_ID, {}, "may only read"),
    "another's": ({"HF_TOKEN": OTHER_TOKEN}, REPO_ID, {}, "belongs to other, who may not write"),
    "bad name": ({"HF_TOKEN": TOKEN}, "user/a b", {}, "not a valid Hub id"),
    "bad license": (
        {"HF_TOKEN": TOKEN},
        REPO_ID,
        {"license": "Apache 2.0"},
        r"license=Apache 2.0: not .* mean apache-2.0",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_push_that_cannot_be_is_an_error_of_one_line(local_hub, untrained, monkeypatch, case):
    environment, name, options, message = REFUSED[case]
    monkeypatch.delenv("HF_TOKEN")
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(InputError, match=message) as raised:
        push(untrained, name, **options)
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith((f"{name}: ", "license=Apache 2.0: "))
    assert not local_hub.repos


def test_a_private_push_to_a_public_repository_is_refused(local_hub, untrained):
    head = push(untrained, REPO_ID).commit
    with pytest.raises(InputError, match="public on the Hub already"):
        push(untrained, REPO_ID, private=True)
    assert local_hub.repos["model", REPO_ID].sha == head


def test_a_folder_without_a_whole_model_is_refused_before_anything_is_asked(local_hub, tmp_path):
    with pytest.raises(InputError, match="no model there"):
        push(tmp_path, REPO_ID)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"model\.safetensors is missing"):
        push(tmp_path, REPO_ID)
    assert local_hub.requests == []


# ---- at the end of training ----


def test_training_pushes_the_model_when_it_is_measured(local_hub, drawn_fruits, tmp_path):
    options = {"push_to_hub": True, "hub_token": TOKEN, "hub_private_repo": True}
    train(*tiny_arguments(drawn_fruits, tmp_path / "tiny", **options))
    repo = local_hub.repos["model", "user/tiny"]
    assert repo.private and len(repo.commits) == 2  # the one that made it, and ours
    assert "accuracy (95 % interval)" in repo.files["README.md"].decode()
    assert not [name for name in repo.files if name.startswith("checkpoint")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hub_model_id": "two words"}, "not a valid Hub id"),
        ({"hub_model_id": "user/public", "hub_private_repo": True}, "public on the Hub already"),
        ({"hub_revision": "dev"}, "pushed once, to main"),
        ({"hub_strategy": "checkpoint"}, "pushed once, to main"),
    ],
)
def test_what_the_push_would_meet_with_is_raised_before_training(
    local_hub, drawn_fruits, tmp_path, options, message
):
    local_hub.repos["model", "user/public"] = Repo({"README.md": b""})
    with pytest.raises(InputError, match=message):
        train(*tiny_arguments(drawn_fruits, tmp_path / "tiny", push_to_hub=True, **options))
    assert not (tmp_path / "tiny").exists()


def test_training_is_refused_at_once_where_the_push_could_not_be(local_hub, drawn_fruits, tmp_path):
    options = {"push_to_hub": True, "hub_model_id": "other/fruits"}
    with pytest.raises(InputError, match="who may not write"):
        train(*tiny_arguments(drawn_fruits, tmp_path / "tiny", **options))
    assert not (tmp_path / "tiny").exists()


def test_a_push_that_fails_after_training_says_how_to_do_it_later(
    local_hub, drawn_fruits, tmp_path
):
    local_hub.faults.append(Fault("/commit/", status=403))
    options = {"push_to_hub": True, "hub_private_repo": True, "hub_report": False}
    with pytest.raises(InputError, match=r"push it with `hffruits push .* --private --no_report`"):
        train(*tiny_arguments(drawn_fruits, tmp_path / "tiny", **options))
    push(tmp_path / "tiny", "tiny")
    assert FruitClassifier.from_pretrained("user/tiny").labels
