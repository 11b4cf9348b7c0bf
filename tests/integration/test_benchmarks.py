"""Benchmarks made for GPUs also run on any other machine."""

import re
import sys

import pytest
from support.runs import load_benchmark


@pytest.mark.slow
def test_throughput_is_measured_for_all_pipelines(drawn_fruits, monkeypatch, capsys):
    module = load_benchmark("throughput", monkeypatch)
    options = ["--models", "test_vit", "--batch_size", "4", "--steps", "2", "--warmup", "1"]
    words = [module.__file__, "--data_dir", str(drawn_fruits), *options, "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", words)
    module.main()
    head, _, row = capsys.readouterr().out.splitlines()[-3:]
    assert head.split(" | ")[1:] == [
        *list(module.PIPELINES)[:-1],
        f"{list(module.PIPELINES)[-1]} |",
    ]
    rates = re.findall(r"[\d,]+\.\d", row)
    assert row.startswith("| test_vit |") and len(rates) == len(module.PIPELINES)
    assert all(float(rate.replace(",", "")) > 0 for rate in rates)
