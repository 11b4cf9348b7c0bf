"""Backbones of every family are trained, loaded, explained and exported, or it is said why not.

By default only those that once failed, and only in what failed. Everything, which takes long:
`HFFRUITS_BACKBONES=all pytest tests/integration/test_backbones.py`.
"""

import json
import os
from pathlib import Path

import pytest
from support.backbones import (
    KNOWN_TO_FAIL,
    NOT_MADE,
    OUTCOMES,
    STAGES,
    TIMM,
    TRANSFORMERS,
    draw_few,
    try_backbone,
)
from support.warm import run_apart
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES

ALL = os.environ.get("HFFRUITS_BACKBONES") == "all"
FAILED_ONCE = {
    "deit with teacher": ("training", "prediction"),  # logits of two heads
    "levit with teacher": ("training", "prediction"),
    "coat_lite_tiny": ("training", "resuming", "prediction"),  # tensors of two names
    "swin of one block": ("onnx",),  # window attention
}
TRIED = dict.fromkeys([*TRANSFORMERS, *TIMM], STAGES) if ALL else FAILED_ONCE


@pytest.fixture(scope="module")
def few(shared) -> Path:
    return shared("few", draw_few)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRIED)
def test_a_backbone_does_what_it_promises(name, few, tmp_path):
    done = run_apart(try_backbone, name, few, tmp_path, TRIED[name], folder=tmp_path)
    assert done.returncode == 0, f"{done.returncode}: {done.stderr[-2000:]}"
    outcomes = json.loads((tmp_path / OUTCOMES).read_text())
    known = KNOWN_TO_FAIL.get(name, {})
    failed = {stage: reason for stage, reason in outcomes.items() if reason != "yes"}
    assert failed.keys() == known.keys() & set(TRIED[name]), failed
    for stage, reason in failed.items():
        assert known[stage] in reason
        assert "\n" not in reason and "\x1b" not in reason


def test_every_family_of_transformers_is_tried_or_said_why_not():
    made = {name.split(" ")[0] for name in TRANSFORMERS}
    assert made | NOT_MADE.keys() == MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES.keys()
    assert not made & NOT_MADE.keys()


def crash() -> None:
    os.abort()


def test_a_native_crash_is_a_failed_case_and_not_the_end_of_the_suite(tmp_path):
    assert run_apart(crash, folder=tmp_path).returncode == -6
