"""Exports predict as their model does, and one that doesn't is not kept."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from support.drawing import draw_fruit
from support.runs import paint, tiny_arguments

from hffruits.cli.main import main
from hffruits.core.errors import InputError
from hffruits.data.arguments import DataArguments
from hffruits.data.images import open_rgb
from hffruits.data.split_protocol import Sample
from hffruits.data.transforms import preprocessing_of
from hffruits.exporters import onnx as onnx_export
from hffruits.exporters import parity, torch_export
from hffruits.exporters.run import Export, _copy_beside, choose_images, export
from hffruits.inference.classifier import FruitClassifier
from hffruits.inference.engines.base import open_engine
from hffruits.models.loading import build_model
from hffruits.training.arguments import ModelArguments
from hffruits.training.run import train

GRAPHS: dict[bytes, bytes] = {}  # of models, by weights and input size


@pytest.fixture(scope="module")
def small(drawn_fruits: Path, shared) -> Path:
    """A small net with batch norm, trained and calibrated.

    It refuses nothing: to a random net all images are alike.
    """
    net = ModelArguments("test_efficientnet", pretrained=False, image_size=64, freeze="none")
    options = {"model": net, "num_train_epochs": 4, "reject_rate": 0}
    return shared("small", lambda folder: train(*tiny_arguments(drawn_fruits, folder, **options)))


@pytest.fixture(autouse=True)
def traced_once(monkeypatch):
    """A model's graph is made once and copied, and few sample photos are tried: both take long."""
    monkeypatch.setattr("hffruits.exporters.run.PER_CLASS", 1)
    trace = onnx_export.to_onnx

    def traced(model, size) -> onnx.ModelProto:
        weights = hashlib.sha256(repr(size).encode())
        for name, tensor in model.state_dict().items():
            weights.update(name.encode() + tensor.float().numpy().tobytes())
        key = weights.digest()
        GRAPHS[key] = GRAPHS.get(key) or trace(model, size).SerializeToString()
        return onnx.ModelProto.FromString(GRAPHS[key])

    monkeypatch.setattr(onnx_export, "to_onnx", traced)


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    """Of many shapes; the first is larger than the net's input, the last smaller."""
    sizes = [(200, 150), (97, 131), (64, 64), (301, 80), (40, 33)]
    names = ["Apple", "Banana", "Blueberry", "Cherry", "Kiwi"]
    drawn = [draw_fruit(name, seed=9, size=128) for name in names]
    return [image.resize(size) for image, size in zip(drawn, sizes, strict=True)]


def outputs_of(fruits: FruitClassifier, images: list, batch_size: int = 32) -> torch.Tensor:
    parts = fruits.infer(images, batch_size=batch_size)
    return torch.cat([part.logits for part in parts]).softmax(1)


@pytest.mark.parametrize(
    ("format", "precision", "tolerance"),
    [
        ("onnx", "fp32", 1e-4),
        ("onnx", "fp16", 0.02),
        ("openvino", "fp32", 1e-4),
        ("openvino", "fp16", 0.02),
        ("openvino", "bf16", 0.1),
    ],
)
def test_an_export_predicts_as_its_model(small, images, tmp_path, format, precision, tolerance):
    done = export(
        small, DataArguments(), format=format, precision=precision, output_dir=tmp_path / "x"
    ).record
    assert json.loads((tmp_path / "x" / "export.json").read_text()).items() <= done.items()
    assert done["check"]["data"] == "validation photos" and done["check"]["images"] == 12
    assert done["check"]["largest_difference"] <= tolerance
    own, exported = (FruitClassifier.from_pretrained(path) for path in (small, tmp_path / "x"))
    wanted = outputs_of(own, images)
    for batch_size in (1, 2, 32):
        got = outputs_of(exported, images, batch_size)
        torch.testing.assert_close(got, wanted, rtol=0, atol=tolerance)
    assert exported.labels == own.labels and exported.input_size == own.input_size
    assert exported.ood_threshold == own.ood_threshold
    assert exported.config.calibration == own.config.calibration


def test_an_export_refuses_what_its_model_refuses(trained, images, tmp_path):
    export(trained, DataArguments(), format="openvino", output_dir=tmp_path / "x")
    own, exported = (FruitClassifier.from_pretrained(path) for path in (trained, tmp_path / "x"))
    torch.testing.assert_close(exported.prototypes, own.prototypes)
    photos = [
        [(one.label, one.photo.read_bytes()) for one in each.examples] for each in (own, exported)
    ]
    assert photos[0] == photos[1] and len(photos[0]) == len(own.labels)
    assert 0 < exported.ood_threshold == own.ood_threshold < 1
    strange = [*images, Image.effect_noise((90, 90), 80), Image.new("RGB", (64, 64), "navy")]
    known = [own.predict(image).known for image in strange]
    assert len(set(known)) == 2
    assert [exported.predict(image).known for image in strange] == known


def test_eight_bits_are_fewer_bytes_and_nearly_the_same_outputs(trained, tmp_path):
    whole, small = tmp_path / "whole", tmp_path / "int8"
    export(trained, DataArguments(), format="onnx", output_dir=whole)
    done = export(
        trained, DataArguments(), format="onnx", precision="int8", output_dir=small
    ).record
    assert (small / "model.onnx").stat().st_size < 0.4 * (whole / "model.onnx").stat().st_size
    kinds = {node.op_type for node in onnx.load(small / "model.onnx").graph.node}
    assert "QuantizeLinear" in kinds
    assert done["check"]["agreement"] >= 0.9
    assert done["check"]["accuracy"] >= done["check"]["accuracy_before"] - 0.09  # one of twelve


def test_a_vision_transformer_is_exported_too(tmp_path, images):
    model, processor = build_model("test_vit", labels=list("abc"), pretrained=False)
    model.save_pretrained(tmp_path / "vit")
    export(tmp_path / "vit", DataArguments(), format="onnx", output_dir=tmp_path / "x")
    wanted = outputs_of(FruitClassifier(model, processor), images)
    got = outputs_of(FruitClassifier.from_pretrained(tmp_path / "x"), images)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-4)


# ---- one file for browsers ----


def ask_web(file: Path, image: np.ndarray) -> tuple[np.ndarray, bool]:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    scores, known = session.run(["scores", "known"], {"image": image})
    return scores, bool(known)


def test_one_file_takes_images_of_any_size_as_a_canvas_has_them(trained, images, tmp_path):
    export(trained, DataArguments(), format="web", output_dir=tmp_path / "x")
    file = tmp_path / "x" / "fruits.onnx"
    fruits = FruitClassifier.from_pretrained(trained)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    labels = json.loads(session.get_modelmeta().custom_metadata_map["labels"])
    assert labels == fruits.labels
    for image in images:
        wanted = fruits.predict(image, top_k=9)
        for mode in ("RGB", "RGBA"):
            scores, known = ask_web(file, np.asarray(image.convert(mode)))
            assert labels[scores.argmax()] == wanted.label
            assert scores.max() == pytest.approx(wanted.score, abs=0.01)
            assert known == wanted.known


def test_what_is_see_through_stands_on_white(trained, tmp_path):
    export(trained, DataArguments(), format="web", output_dir=tmp_path / "x")
    image = draw_fruit("Apple", seed=9, size=128).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    wanted = FruitClassifier.from_pretrained(trained).predict(image)
    scores, _ = ask_web(tmp_path / "x" / "fruits.onnx", np.asarray(image))
    assert scores.max() == pytest.approx(wanted.score, abs=0.02)


def test_a_net_that_squeezes_images_goes_into_one_file_too(tmp_path, images):
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    config = ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        image_size=32, patch_size=8, id2label={0: "a", 1: "b"}, label2id={"a": 0, "b": 1},
    )  # fmt: skip
    torch.manual_seed(0)
    ViTForImageClassification(config).save_pretrained(tmp_path / "vit")
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "vit")
    export(tmp_path / "vit", DataArguments(), format="web", output_dir=tmp_path / "x")
    wanted = outputs_of(FruitClassifier.from_pretrained(tmp_path / "vit"), images)
    for image, own in zip(images, wanted, strict=True):
        scores, known = ask_web(tmp_path / "x" / "fruits.onnx", np.asarray(image))
        np.testing.assert_allclose(scores, own, atol=0.005)
        assert known  # it has no prototypes


def test_preprocessing_is_spelled_out_as_the_processor_does_it():
    _, processor = build_model("efficientnet_lite0", labels=list("ab"))
    steps = preprocessing_of(processor)
    assert (steps.resize, steps.crop, steps.interpolation.value) == ((256,), (224, 224), "bicubic")
    assert steps.mean == steps.std == (0.5, 0.5, 0.5)


def test_torch_export_keeps_the_outputs(small, images, tmp_path):
    done = export(small, DataArguments(), format="torch", output_dir=tmp_path / "x").record
    assert done["check"]["agreement"] == 1.0 and done["check"]["largest_difference"] < 1e-5
    program = torch.export.load(tmp_path / "x" / "model.pt2").module()
    fruits = FruitClassifier.from_pretrained(small)
    pixels = torch.stack([fruits.transform(open_rgb(image)) for image in images])
    logits, features = program(pixels)
    torch.testing.assert_close(logits, fruits.forward(pixels)[0], rtol=0, atol=1e-4)
    assert features.shape[0] == 5
    with pytest.raises(InputError, match=r"without hffruits \(torch\)"):
        FruitClassifier.from_pretrained(tmp_path / "x")


# ---- what is refused ----


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "tflite"}, "format=tflite: unknown. Known: onnx, openvino, web, torch"),
        ({"format": "onnx", "precision": "bf16"}, "precision=bf16: not for onnx, which has fp32"),
        ({"format": "torch", "precision": "int8"}, "precision=int8: not for torch"),
    ],
)
def test_a_model_that_cannot_be_exported_is_explained(small, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        export(small, DataArguments(), output_dir=tmp_path / "x", **options)
    assert list(tmp_path.iterdir()) == []


def test_an_export_of_a_strangers_model_copies_no_file_that_lies_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr("hffruits.exporters.run.save_config", lambda *_: None)
    model, folder, secret = (tmp_path / name for name in ("model", "export", "secret"))
    (model / "splits").mkdir(parents=True)
    for each in (folder, secret):
        each.mkdir()
    (secret / "train.txt").write_text("secret")
    (model / "splits" / "train.txt").symlink_to(secret / "train.txt")
    (model / "splits" / "test.txt").write_text("Kiwi/0.jpg")
    fruits = SimpleNamespace(
        config=None, transform=SimpleNamespace(processor=None), prototypes=None, examples=[]
    )
    _copy_beside(model, fruits, folder)
    assert [path.name for path in folder.rglob("*.txt")] == ["test.txt"]


def test_an_existing_folder_is_not_changed(small, tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="already exists"):
        export(small, DataArguments(), format="onnx", output_dir=tmp_path / "x")
    assert (tmp_path / "x" / "notes.txt").read_text() == "mine"


def distort(monkeypatch, change) -> None:
    """Have the model be right of every image, and an export differ as `change` does."""
    predict_all = parity.predict_all

    def all_right(fruits, samples, max_pixels):
        found = predict_all(fruits, samples, max_pixels)
        scores = np.full_like(found.scores, 0.01)
        scores[np.arange(len(scores)), [sample.label for sample in found.samples]] = 0.97
        return found._replace(scores=scores)

    def open_distorted(*arguments):
        return lambda *asked: change(all_right(arguments[2], *asked))

    monkeypatch.setattr(parity, "predict_all", all_right)
    monkeypatch.setattr("hffruits.exporters.run.open_exported", open_distorted)


def wrong_in(count: int):
    def change(found):
        scores = found.scores.copy()
        scores[:count] = np.roll(scores[:count], 1, axis=1)
        return found._replace(scores=scores)

    return change


def test_an_export_that_loses_too_much_is_not_kept_unless_forced(small, tmp_path, monkeypatch):
    distort(monkeypatch, wrong_in(3))
    options = {"format": "onnx", "output_dir": tmp_path / "x"}
    with pytest.raises(
        InputError,
        match=r"on 12 validation photos it loses 25.00% of accuracy, over the limit of 8.33% "
        r"\(max_accuracy_drop=0.005\)\. Choose another precision, or set force",
    ):
        export(small, DataArguments(), **options)
    assert list(tmp_path.iterdir()) == []
    done = export(small, DataArguments(), **options, force=True).record
    assert done["check"]["accuracy"] == pytest.approx(0.75)
    assert (tmp_path / "x" / "model.onnx").is_file()


def test_a_single_image_does_not_decide_about_an_export(small, tmp_path, monkeypatch):
    distort(monkeypatch, wrong_in(1))
    done = export(
        small, DataArguments(), format="onnx", precision="fp16", output_dir=tmp_path / "x"
    ).record
    assert done["check"]["accuracy"] == pytest.approx(11 / 12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda found: found._replace(known=~found.known),
            "on 12 validation photos known and unknown change for 100%",
        ),
        (lambda found: found._replace(scores=0.98 * found.scores), "a score changes by 0.019"),
    ],
)
def test_an_export_that_differs_otherwise_is_not_kept(
    small, tmp_path, monkeypatch, change, message
):
    distort(monkeypatch, change)
    with pytest.raises(InputError, match=message):
        export(small, DataArguments(), format="onnx", output_dir=tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def judge(precision: str = "int8", max_accuracy_drop: float = 0.005, **check: float) -> None:
    """What is decided about an export with such a check."""
    same = {"images": 12, "data": "photos", "agreement": 1.0, "known_agreement": 1.0}
    same |= {"labelled": 12, "accuracy": 0.5, "accuracy_before": 0.5, "largest_difference": 0.0}
    record = {"precision": precision, "check": same | check}
    parity.refuse_difference(Path("x"), record, max_accuracy_drop)


def test_other_labels_refuse_an_export_though_as_many_are_right():
    with pytest.raises(InputError, match=r"on 12 photos only 58% of its labels are the model's"):
        judge(agreement=7 / 12)
    with pytest.raises(InputError, match=r"only 88% of its labels are"):
        judge(agreement=0.88, images=2000, labelled=2000)
    judge(agreement=0.89, images=100, labelled=100)  # which may be 90 % of more photos
    judge(agreement=7 / 12, max_accuracy_drop=0.5)


@pytest.mark.parametrize("share", ["agreement", "known_agreement"])
def test_one_photo_of_four_refuses_no_export(share):
    judge(**{share: 0.75, "images": 4, "labelled": 4})
    with pytest.raises(InputError):
        judge(**{share: 0.5, "images": 4, "labelled": 4})


def test_an_image_at_the_threshold_is_no_disagreement(small):
    """The threshold is an image's score: rounding decides on which side it comes out."""
    own = FruitClassifier.from_pretrained(small)
    samples = [Sample("a", draw_fruit("Apple", seed=1, size=64), 0)]
    (outputs,) = own.infer([samples[0].source])
    own.prototypes = torch.nn.functional.normalize(outputs.features + 0.1, dim=1)
    own.ood_threshold = float(own.ood_score(outputs.features)[0])
    other = parity.predict_all(own, samples, 10**6)
    opposite = other._replace(known=~other.known)
    assert other.known.all() and other.undecided.all()
    check = parity.compare(own, lambda *_: opposite, samples, 10**6)
    assert check["known_agreement"] == 1.0
    own.ood_threshold += 0.01
    assert parity.compare(own, lambda *_: opposite, samples, 10**6)["known_agreement"] == 0.0


def test_a_warning_says_so_where_rounding_decides_about_many_images(small, monkeypatch, caplog):
    own = FruitClassifier.from_pretrained(small)
    samples = [Sample("a", draw_fruit("Apple", seed=1, size=64), 0)] * 8
    predicted = parity.predict_all(own, samples, 10**6)
    for undecided, warned in ((1, False), (2, True)):
        some = predicted._replace(undecided=np.arange(8) < undecided)
        monkeypatch.setattr(parity, "predict_all", lambda *_, some=some: some)
        check = parity.compare(own, parity.predict_all, samples, 10**6)
        assert check["undecided"] == undecided / 8
        assert ("can't be checked on 25% of the images" in caplog.text) == warned


@pytest.mark.parametrize(
    ("format", "dtype"),
    [
        ("onnx", torch.bfloat16),
        ("openvino", torch.bfloat16),
        ("web", torch.bfloat16),
        ("torch", torch.float16),
    ],
)
def test_a_checkpoint_in_half_precision_is_exported_in_full(tmp_path, images, format, dtype):
    torch.manual_seed(0)  # one graph for all formats
    model, _ = build_model("test_vit", labels=list("abc"), pretrained=False)
    model.to(dtype).save_pretrained(tmp_path / "vit")
    done = export(
        tmp_path / "vit", DataArguments(), format=format, output_dir=tmp_path / "x"
    ).record
    assert done["check"]["largest_difference"] < 0.01


def test_a_model_that_cannot_be_traced_is_an_error_of_one_line(small, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("Constraints violated (batch)!\nmore\nlines")

    monkeypatch.setattr("torch.export.export", fail)
    with pytest.raises(
        InputError, match=r"can't be exported to torch: Constraints violated"
    ) as raised:
        export(small, DataArguments(), format="torch", output_dir=tmp_path / "x")
    assert "\n" not in str(raised.value) and list(tmp_path.iterdir()) == []


def test_attention_that_cannot_be_traced_fused_is_traced_in_steps():
    model, _ = build_model("test_vit", labels=list("abc"), pretrained=False)
    fused = []

    def convert(net) -> bool:
        fused.append(any(vars(module).get("fused_attn") for module in net.modules()))
        if fused[-1]:
            raise RuntimeError("it wants to know the number of windows")
        return net.config._attn_implementation == "eager"

    assert torch_export.with_any_attention(convert, model)
    assert fused == [True, False]
    assert any(vars(module).get("fused_attn") for module in model.modules())  # it stays as it was


def test_the_cause_of_a_failed_export_is_one_plain_line(small, tmp_path, monkeypatch):
    def fail(*_, **__):
        try:
            raise TypeError("no such \x1b[96moperator\x1b[0m.")
        except TypeError as cause:
            raise RuntimeError("\x1b[96mThis is step 3/3\x1b[0m\n- Create an issue") from cause

    monkeypatch.setattr("torch.export.export", fail)
    with pytest.raises(InputError, match=r"to torch: no such operator\. Choose another format\.$"):
        export(small, DataArguments(), format="torch", output_dir=tmp_path / "x")


def test_named_photos_are_checked_on_and_others_calibrate(small, make_folder, tmp_path):
    names = FruitClassifier.from_pretrained(small).labels
    flat = make_folder(dict.fromkeys(names, 10), tmp_path / "flat")
    options = {"format": "onnx", "precision": "int8", "force": True}
    done = export(
        small, DataArguments(data_dir=str(flat)), **options, output_dir=tmp_path / "x"
    ).record
    assert done["check"]["data"] == "train photos"
    assert done["check"]["images"] == 20  # the other half calibrated
    split = make_folder(
        {f"{part}/{name}": 3 for part in ("train", "val", "test") for name in names}
    )
    done = export(
        small, DataArguments(data_dir=str(split)), **options, output_dir=tmp_path / "y"
    ).record
    assert done["check"]["data"] == "validation photos" and done["check"]["images"] == 12


def test_named_photos_of_a_stream_are_checked_on_and_others_calibrate(tmp_path):
    labels = ["Kiwi", "Lime", "Plum"] * 4
    images = [{"bytes": paint(tmp_path / "a.png", seed=i).read_bytes()} for i in range(12)]
    rows = {"image": images, "label": labels, "path": [f"{i}" for i in range(12)]}
    (tmp_path / "table").mkdir()
    parquet.write_table(pa.table(rows), tmp_path / "table" / "train.parquet")
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text("{}")
    fruits = SimpleNamespace(labels=["Kiwi", "Plum"])
    data = DataArguments(str(tmp_path / "table"), streaming=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hffruits.exporters.run.CALIBRATION_PHOTOS", 5)
        found = choose_images(run, data, fruits, calibrate=True)
    shown = [{sample.path for sample in some} for some in (found.calibration, found.check)]
    assert found.name == "train photos" and not shown[0] & shown[1]
    assert (len(shown[0]), len(shown[1])) == (5, 3)
    assert {sample.label for sample in found.check} == {0, 1}


def test_max_accuracy_drop_is_a_share(small, tmp_path):
    with pytest.raises(InputError, match=r"max_accuracy_drop=5: must be between"):
        export(
            small, DataArguments(), format="onnx", output_dir=tmp_path / "x", max_accuracy_drop=5
        )


def test_without_photos_the_sample_photos_are_checked_on(small, tmp_path, caplog):
    lone = tmp_path / "lone"
    model, _ = build_model(str(small), labels=FruitClassifier.from_pretrained(small).labels)
    model.save_pretrained(lone)
    done = export(lone, DataArguments(), format="onnx", output_dir=tmp_path / "x").record
    assert done["check"]["data"] == "sample photos" and "accuracy" not in done["check"]
    assert done["check"]["agreement"] == 1.0
    assert "sample photos only" in caplog.text
    with pytest.raises(InputError, match="doesn't say what it was trained on"):
        export(lone, DataArguments(), format="onnx", precision="int8", output_dir=tmp_path / "y")


def test_a_damaged_export_is_an_error_of_one_line(small, tmp_path):
    export(small, DataArguments(), format="onnx", output_dir=tmp_path / "x")
    (tmp_path / "x" / "model.onnx").write_bytes(b"junk")
    with pytest.raises(InputError, match="ONNX Runtime can't read it"):
        open_engine(tmp_path / "x")
    (tmp_path / "x" / "model.onnx").unlink()
    with pytest.raises(InputError, match=r"model.onnx is missing"):
        open_engine(tmp_path / "x")
    record = json.loads((tmp_path / "x" / "export.json").read_text())
    record["files"] = ["../../secret.onnx"]
    for broken in (
        record,
        record | {"files": []},
        record | {"files": [1]},
        record | {"files": ["model.onnx"], "precision": "int4"},
        record | {"files": ["model.onnx"], "parameters": "many"},
        {},
        [],
    ):
        (tmp_path / "x" / "export.json").write_text(json.dumps(broken))
        with pytest.raises(InputError, match="not as exporting wrote it"):
            open_engine(tmp_path / "x")


def test_an_export_only_predicts(small, tmp_path, images):
    export(small, DataArguments(), format="openvino", output_dir=tmp_path / "x")
    fruits = FruitClassifier.from_pretrained(tmp_path / "x")
    with pytest.raises(InputError, match="an export only predicts"):
        fruits.explain(images[0])
    with pytest.raises(InputError, match="an export only predicts"):
        export(tmp_path / "x", DataArguments(), format="onnx", output_dir=tmp_path / "y")
    with pytest.raises(InputError, match="Export it like that"):
        FruitClassifier.from_pretrained(tmp_path / "x", precision="bf16")


def test_an_export_is_evaluated_as_its_model_is(small, tmp_path):
    export(small, DataArguments(), format="openvino", output_dir=tmp_path / "x")
    for model, folder in ((small, "own"), (tmp_path / "x", "exported")):
        assert main(["evaluate", str(model), "--output_dir", str(tmp_path / folder)]) == 0
    own, exported = (
        json.loads((tmp_path / folder / "metrics.json").read_text())
        for folder in ("own", "exported")
    )
    assert exported["accuracy"] == own["accuracy"] and exported["images"] == own["images"] == 20
    assert exported["ece"] == pytest.approx(own["ece"], abs=1e-4)
    assert (tmp_path / "exported" / "report.html").stat().st_size > 10_000


def test_the_command_reports_how_the_export_predicts(small, tmp_path, capsys):
    folder = str(tmp_path / "x")
    assert main(["export", str(small), "--format", "onnx", "--output_dir", folder]) == 0
    printed = capsys.readouterr().out
    assert "12 validation photos: 100.0% the same predictions" in printed and folder in printed
    assert main(["export", str(small), "--format", "onnx", "--output_dir", folder]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_folder_is_named_after_model_format_and_precision(drawn_fruits, small):
    done = export(small, DataArguments(), format="openvino", precision="fp16")
    assert done.folder == small.with_name("small-openvino-fp16")


def test_a_model_in_bf16_predicts_nearly_the_same(trained, images, caplog):
    whole, half = (FruitClassifier.from_pretrained(trained, precision=p) for p in ("fp32", "bf16"))
    torch.testing.assert_close(
        outputs_of(half, images), outputs_of(whole, images), rtol=0, atol=0.1
    )
    assert half.engine.bf16 or "doesn't support it" in caplog.text
    with pytest.raises(InputError, match=r"precision=int4: unknown\. Known: fp32, bf16"):
        FruitClassifier.from_pretrained(trained, precision="int4")


def test_openvino_is_loaded_without_its_telemetry():
    code = (
        "import socket\n"
        "def refuse(*_, **__): raise AssertionError('asked for an address')\n"
        "socket.getaddrinfo = refuse\n"
        "from hffruits.inference.engines.openvino_loading import load_openvino\n"
        "load_openvino().Core()\n"
        "from openvino.tools.ovc import telemetry_utils\n"
        "assert telemetry_utils.tm.__name__.endswith('telemetry_stub'), telemetry_utils.tm\n"
        "import openvino_telemetry"  # whoever asks for it himself still gets it
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_missing_runtime_is_an_error_with_its_remedy(small, tmp_path, monkeypatch):
    export(small, DataArguments(), format="openvino", output_dir=tmp_path / "x")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(InputError, match=r"needs openvino. Run pip install 'hffruits\[openvino\]'"):
        FruitClassifier.from_pretrained(tmp_path / "x")
    with pytest.raises(InputError, match=r"format=openvino: needs openvino. Run pip"):
        export(small, DataArguments(), format="openvino", output_dir=tmp_path / "y")


def test_an_export_is_loaded_once(tmp_path, monkeypatch):
    monkeypatch.setattr(FruitClassifier, "from_pretrained", lambda folder: object())
    exported = Export(tmp_path, {})
    assert exported.classifier is exported.classifier


def test_images_with_too_many_pixels_are_not_checked_on(small, tmp_path):
    draw_fruit("Apple", seed=1, size=64).save(tmp_path / "a.png")
    fruits, samples = FruitClassifier.from_pretrained(small), [Sample("a", tmp_path / "a.png", 0)]
    assert len(parity.predict_all(fruits, samples, 64 * 64).samples) == 1
    assert not parity.predict_all(fruits, samples, 64 * 64 - 1).samples


def test_only_the_first_line_of_an_exporters_first_cause_is_shown():
    cause = ValueError("\nCan't slice it.\nNext steps:\n- Create an issue")
    error = RuntimeError("Failed to decompose the FX graph")
    error.__cause__ = cause
    assert torch_export.first_cause(error) == "Can't slice it"
    assert torch_export.first_cause(ValueError()) == "ValueError"
