"""Backbones of every family with random weights, as small as it allows, and what is tried on each.

All of transformers' image classifiers, by their auto class, and some ninety nets of timm.
`NOT_MADE` has those that can't be made here, `KNOWN_TO_FAIL` what fails for a reason not ours.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import timm
import torch
import transformers
from PIL import Image
from transformers import (
    AutoModelForImageClassification,
    PreTrainedModel,
    TimmWrapperConfig,
    TimmWrapperForImageClassification,
    ViTImageProcessor,
)

from hffruits.core.errors import InputError, short_reason
from hffruits.data.images import open_rgb
from hffruits.exporters.run import export
from hffruits.inference.classifier import FruitClassifier
from hffruits.models.artifact import METRICS
from hffruits.models.loading import load_model, load_processor_of
from hffruits.models.saving import save_model
from hffruits.training.arguments import ModelArguments
from hffruits.training.run import train
from support.drawing import FRUITS, draw_fruit
from support.runs import quick_arguments

STAGES = ("training", "resuming", "prediction", "heatmap", "onnx", "torch")
OUTCOMES = "outcomes.json"


class Row(NamedTuple):
    """A net: its class or its name in timm, what makes it small, and pixels a side."""

    name: str
    options: dict[str, Any]
    size: int = 32


_VIT = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "image_size": 32, "patch_size": 8,
}  # fmt: skip
_STAGED = {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1]}
_TEXT = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64,
    "vocab_size": 99,
}  # fmt: skip
_TWO_TOWERS = {"vision_config": _VIT, "text_config": _TEXT}
_LEVIT = {
    "hidden_sizes": [16, 24, 32], "num_attention_heads": [2, 3, 4], "depths": [1, 1, 1],
    "key_dim": [8, 8, 8], "image_size": 64,
}  # fmt: skip
_WINDOWS = {"embed_dim": 24, "depths": [2, 2], "num_heads": [3, 6], "patch_size": 4}

TRANSFORMERS = {
    "beit": Row("BeitForImageClassification", _VIT),
    "bit": Row("BitForImageClassification", _STAGED | {"embedding_size": 8, "num_groups": 4}, 64),
    "clip": Row("CLIPForImageClassification", _TWO_TOWERS),
    "convnext": Row("ConvNextForImageClassification", _STAGED, 64),
    "convnextv2": Row("ConvNextV2ForImageClassification", _STAGED, 64),
    "cvt": Row(
        "CvtForImageClassification",
        {"embed_dim": [16, 32, 48], "num_heads": [1, 2, 3], "depth": [1, 2, 3]},
        64,
    ),
    "data2vec-vision": Row("Data2VecVisionForImageClassification", _VIT),
    "deit": Row("DeiTForImageClassification", _VIT),
    "deit with teacher": Row("DeiTForImageClassificationWithTeacher", _VIT),
    "dinov2": Row("Dinov2ForImageClassification", _VIT),
    "dinov2_with_registers": Row("Dinov2WithRegistersForImageClassification", _VIT),
    "donut-swin": Row(
        "DonutSwinForImageClassification", _WINDOWS | {"image_size": 56, "window_size": 7}, 56
    ),
    "efficientnet": Row(
        "EfficientNetForImageClassification",
        {"width_coefficient": 0.25, "depth_coefficient": 0.1, "hidden_dim": 320},
        64,
    ),
    "focalnet": Row(
        "FocalNetForImageClassification",
        {
            "image_size": 32,
            "embed_dim": 16,
            "depths": [1, 1],
            "focal_levels": [1, 1],
            "focal_windows": [3, 3],
            "hidden_sizes": [16, 32],
        },
    ),
    "hgnet_v2": Row(
        "HGNetV2ForImageClassification",
        {
            "stem_channels": [3, 8, 12],
            "stage_in_channels": [12, 16, 24, 32],
            "stage_mid_channels": [8, 8, 8, 8],
            "stage_out_channels": [16, 24, 32, 48],
            "hidden_sizes": [16, 24, 32, 48],
            "stage_num_blocks": [1, 1, 1, 1],
            "stage_numb_of_layers": [2, 2, 2, 2],
            "embedding_size": 16,
        },
        64,
    ),
    "hiera": Row(
        "HieraForImageClassification",
        {"embed_dim": 16, "image_size": [64, 64], "depths": [1, 1, 2, 1]},
        64,
    ),
    "ijepa": Row("IJepaForImageClassification", _VIT),
    "levit": Row("LevitForImageClassification", _LEVIT, 64),
    "levit with teacher": Row("LevitForImageClassificationWithTeacher", _LEVIT, 64),
    "metaclip_2": Row("MetaClip2ForImageClassification", _TWO_TOWERS),
    "mobilenet_v1": Row("MobileNetV1ForImageClassification", {"depth_multiplier": 0.25}, 64),
    "mobilenet_v2": Row("MobileNetV2ForImageClassification", {"depth_multiplier": 0.25}, 64),
    "mobilevit": Row(
        "MobileViTForImageClassification",
        {
            "hidden_sizes": [12, 16, 20],
            "neck_hidden_sizes": [8, 8, 16, 16, 24, 24, 32],
            "image_size": 64,
        },
        64,
    ),
    "mobilevitv2": Row(
        "MobileViTV2ForImageClassification",
        {"width_multiplier": 0.25, "n_attn_blocks": [1, 1, 1], "image_size": 64},
        64,
    ),
    "perceiver": Row(
        "PerceiverForImageClassificationConvProcessing",
        {
            "num_latents": 8,
            "d_latents": 32,
            "num_self_attends_per_block": 1,
            "num_self_attention_heads": 1,
            "num_cross_attention_heads": 1,
        },
        64,
    ),
    "poolformer": Row("PoolFormerForImageClassification", _STAGED, 64),
    "pp_lcnet": Row("PPLCNetForImageClassification", {"scale": 0.25}, 64),
    "pvt": Row(
        "PvtForImageClassification",
        _STAGED | {"image_size": 64, "num_attention_heads": [1, 1, 2, 2]},
        64,
    ),
    "pvt_v2": Row(
        "PvtV2ForImageClassification",
        _STAGED | {"image_size": 64, "num_attention_heads": [1, 1, 2, 2]},
        64,
    ),
    "regnet": Row(
        "RegNetForImageClassification", _STAGED | {"embedding_size": 8, "groups_width": 8}, 64
    ),
    "resnet": Row("ResNetForImageClassification", _STAGED | {"embedding_size": 8}, 64),
    "segformer": Row(
        "SegformerForImageClassification",
        _STAGED | {"num_attention_heads": [1, 1, 2, 2], "decoder_hidden_size": 16},
        64,
    ),
    "siglip": Row("SiglipForImageClassification", _TWO_TOWERS),
    "swiftformer": Row(
        "SwiftFormerForImageClassification",
        {"embed_dims": [16, 24, 32, 48], "depths": [1, 1, 1, 1], "image_size": 64},
        64,
    ),
    "swin": Row("SwinForImageClassification", _WINDOWS | {"image_size": 56, "window_size": 7}, 56),
    "swin of one block": Row(
        "SwinForImageClassification",
        _WINDOWS | {"depths": [1], "num_heads": [3], "image_size": 28, "window_size": 7},
        28,
    ),
    "swinv2": Row(
        "Swinv2ForImageClassification", _WINDOWS | {"image_size": 64, "window_size": 8}, 64
    ),
    "textnet": Row("TextNetForImageClassification", {"image_size": [64, 64]}, 64),
    "vit": Row("ViTForImageClassification", _VIT),
    "vit that returns hidden states": Row(
        "ViTForImageClassification", _VIT | {"output_hidden_states": True}
    ),
    "vit_msn": Row("ViTMSNForImageClassification", _VIT),
}

NOT_MADE = {
    "dinat": "needs natten, which isn't among the packages of the tests",
    "imagegpt": "takes colour clusters (input_ids), no pixels",
    "shieldgemma2": "a language model that answers yes or no; needs prompts",
    "siglip2": "takes patches of images of many sizes with a mask, no plain pixels",
    "timm_wrapper": "what every net of timm is, below",
}

_ANY_SIZE = (  # of which 64 x 64 pixels are enough
    "test_resnet", "test_efficientnet", "test_efficientnet_gn", "test_efficientnet_evos",
    "test_byobnet", "test_convnext", "test_convnext2", "test_convnext3", "test_nfnet",
    "test_mambaout", "resnet10t", "seresnet18", "resnest14d", "skresnet18", "repvgg_a0",
    "mobileone_s0", "fastvit_t8", "edgenext_xx_small", "convnext_atto", "convnextv2_atto",
    "inception_next_atto", "mobilevit_xxs", "mobilevitv2_050", "efficientvit_b0", "ghostnet_050",
    "hardcorenas_a", "lcnet_050", "mnasnet_small", "mobilenetv3_small_050",
    "mobilenetv4_conv_small_035", "regnetx_002", "regnety_002", "regnetz_005", "rexnetr_100",
    "tinynet_e", "ese_vovnet19b_slim_dw", "poolformerv2_s12", "convformer_s18", "pvt_v2_b0",
    "repghostnet_050", "repvit_m0_9", "starnet_s1", "shvit_s1", "swiftformer_xs",
    "mambaout_femto", "fasternet_t0", "dla46_c", "gernet_s", "hgnetv2_b0", "efficientnet_lite0",
    "selecsls42", "hrnet_w18_small", "darknet17", "densenet121",
)  # fmt: skip
_SMALL, _SHALLOW = {"img_size": 64}, {"img_size": 64, "depth": 2}
TIMM = {name: Row(name, {}, 64) for name in _ANY_SIZE} | {
    row.name: row
    for row in (
        Row("test_vit", _SMALL, 64), Row("test_vit2", _SMALL, 64), Row("test_vit4", _SMALL, 64),
        Row("test_vit_relpos", _SMALL, 64), Row("test_maxvit", {}, 160),
        Row("test_coatnet", {}, 160), Row("coat_tiny", _SMALL, 64),
        Row("coat_lite_tiny", _SMALL, 64), Row("levit_128s", _SMALL, 64),
        Row("maxvit_rmlp_pico_rw_256", _SMALL, 64), Row("nest_tiny", _SMALL, 64),
        Row("hiera_tiny_224", {"img_size": (64, 64), "stages": (1, 1, 2, 1)}, 64),
        Row("swin_tiny_patch4_window7_224",
            {"img_size": 56, "embed_dim": 24, "depths": (2, 2), "num_heads": (3, 6)}, 56),
        Row("swinv2_tiny_window8_256",
            {"img_size": 64, "embed_dim": 24, "depths": (2, 2), "num_heads": (3, 6)}, 64),
        Row("cait_xxs24_224", _SHALLOW, 64), Row("convit_tiny", _SHALLOW, 64),
        Row("deit_tiny_distilled_patch16_224", _SHALLOW, 64),
        Row("beit_base_patch16_224", _SHALLOW | {"embed_dim": 48, "num_heads": 3}, 64),
        Row("eva02_tiny_patch14_224", {"img_size": 56, "depth": 2}, 56),
        Row("pit_ti_distilled_224", _SMALL, 64), Row("tnt_s_patch16_224", _SHALLOW, 64),
        Row("twins_svt_small", _SMALL, 64), Row("twins_pcpvt_small", _SMALL, 64),
        Row("visformer_tiny", _SMALL, 64), Row("volo_d1_224", _SMALL, 64),
        Row("gcvit_xxtiny", {"img_size": 64}, 64), Row("xcit_nano_12_p16_224", _SHALLOW, 64),
        Row("mixer_s32_224", _SMALL, 64),
        Row("resmlp_12_224", _SMALL, 64),
        Row("gmlp_ti16_224", _SMALL, 64),
        Row("efficientformer_l1", {}, 224), Row("efficientformerv2_s0", _SMALL, 64),
        Row("efficientvit_m0", _SMALL, 64), Row("tiny_vit_5m_224", {}, 64),
        Row("mvitv2_tiny", _SMALL, 64), Row("vit_relpos_small_patch16_224", _SHALLOW, 64),
        Row("crossvit_tiny_240", {}, 240), Row("davit_tiny", {}, 64),
        Row("focalnet_tiny_srf", {}, 64), Row("convmixer_768_32", {}, 64),
    )
}  # fmt: skip
KNOWN_TO_FAIL = {  # net -> stage -> what its error says
    "perceiver": {"training": "weights lack 2 tensors of the backbone"},  # its head is a decoder
    "pp_lcnet": {"training": "has no attribute 'logits'"},  # transformers calls them hidden states
}


def save_backbone(name: str, folder: Path) -> Path:
    """A net of three classes with random weights, as a checkpoint to fine-tune."""
    torch.manual_seed(0)
    make = _of_transformers if name in TRANSFORMERS else _of_timm
    save_model(*make((TRANSFORMERS | TIMM)[name]), folder)
    return folder


def _of_transformers(row: Row) -> tuple[PreTrainedModel, ViTImageProcessor]:
    kind = getattr(transformers, row.name)
    model = kind(kind.config_class(**row.options, num_labels=3))
    return model, ViTImageProcessor(size={"height": row.size, "width": row.size})


def _of_timm(row: Row) -> tuple[PreTrainedModel, Any]:
    cfg = timm.get_pretrained_cfg(row.name).to_dict() | {"input_size": [3, row.size, row.size]}
    config = {"architecture": row.name, "pretrained_cfg": cfg, "model_args": row.options}
    head = {"num_labels": 3, "id2label": dict(enumerate("abc"))}
    model = TimmWrapperForImageClassification(TimmWrapperConfig.from_dict(config, **head))
    return model, load_processor_of(model)


def draw_few(root: Path) -> Path:
    """Eight photos to train on, four each to validate and test."""
    for split, count in {"train": 2, "validation": 1, "test": 1}.items():
        for name in list(FRUITS)[:4]:
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                image = draw_fruit(name, seed=100 * len(split) + index, size=64)
                image.save(folder / f"{index}.png")
    return root


# ---- what is tried; in a process of its own, since it may crash ----


def try_backbone(name: str, data: Path, folder: Path, stages: Sequence[str] = STAGES) -> None:
    """Go through the stages and write down what became of each, as it ends.

    "yes", or what an `InputError` says. Without training there is nothing else to try; any other
    error ends it.
    """
    torch.set_num_threads(1)
    base, run = save_backbone(name, folder / "base"), folder / "run"
    model = run if "training" in stages else base
    todo: dict[str, Callable[[], None]] = {
        "training": lambda: _train(base, data, run),
        "resuming": lambda: _resume(base, data, run),
        "prediction": lambda: _predict(model, data),
        "heatmap": lambda: _explain(model, data),
        "onnx": lambda: _export(model, "onnx"),
        "torch": lambda: _export(model, "torch"),
    }
    outcomes: dict[str, str] = {}
    for stage in stages:
        try:
            todo[stage]()
            outcomes[stage] = "yes"
        except InputError as error:
            outcomes[stage] = short_reason(error).replace(str(folder), "")
        (folder / OUTCOMES).write_text(json.dumps(outcomes))
        if stage == "training" and outcomes[stage] != "yes":
            return


def _train(base: Path, data: Path, run: Path, **options: Any) -> None:
    short = {"max_steps": 2, "disable_tqdm": True, "learning_rate": 1e-4, "save_total_limit": None}
    train(*quick_arguments(data, run, model=ModelArguments(str(base)), **short, **options))


def _resume(base: Path, data: Path, run: Path) -> None:
    """A run that goes on from its first checkpoint ends with the weights that it had."""
    before = load_model(run)[0].state_dict()
    shutil.rmtree(run / "checkpoint-2")
    (run / METRICS).unlink()
    _train(base, data, run, resume_from_checkpoint="last")
    after = load_model(run)[0].state_dict()
    for key, value in before.items():
        torch.testing.assert_close(after[key], value, rtol=1e-3, atol=1e-4, msg=key)


def _predict(model: Path, data: Path) -> None:
    """As plain transformers does with the same pixels."""
    fruits = FruitClassifier.from_pretrained(model, device="cpu")
    files = sorted((data / "test").rglob("*.png"))
    (outputs,) = fruits.infer(files)
    assert len(fruits.predict(files)) == len(files)
    plain = AutoModelForImageClassification.from_pretrained(model).eval()
    pixels = torch.stack([fruits.transform(open_rgb(file)) for file in files])
    with torch.no_grad():
        wanted = plain(pixel_values=pixels).logits
    torch.testing.assert_close(outputs.logits, wanted, rtol=1e-3, atol=1e-3)
    assert outputs.features.isfinite().all() and outputs.features.ndim == 2


def _explain(model: Path, data: Path) -> None:
    image = Image.open(next((data / "test").rglob("*.png")))
    heat = FruitClassifier.from_pretrained(model, device="cpu").explain(image).heat
    assert heat.ndim == 2 and np.isfinite(heat).all() and heat.min() >= 0 and heat.max() <= 1


def _export(model: Path, format: str) -> None:
    export(model, format=format, output_dir=model.with_name(format))
