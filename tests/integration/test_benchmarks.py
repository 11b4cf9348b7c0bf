"""Benchmarks made for GPUs also run on any other machine."""

import io
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


def test_the_page_of_results_shows_the_tables_of_its_files(monkeypatch):
    render = load_benchmark("render", monkeypatch)
    page = render.PAGE.read_text(encoding="utf-8")
    assert render.render(page) == page
    files = {file.name for file in (render.PAGE.parent / "results").glob("*.csv")}
    assert files == {name for _, name, _ in render.MARKED.findall(page)}


def test_a_printed_table_becomes_the_file_that_gives_it_again(tmp_path, monkeypatch):
    render = load_benchmark("render", monkeypatch)
    monkeypatch.setattr(render, "PAGE", tmp_path / "README.md")
    table = "| a | b, c |\n| --- | --- |\n| 1 | `x` |\n"
    render.PAGE.write_text("<!-- results/t.csv -->\n<!-- end -->\nafter\n")
    (tmp_path / "results").mkdir()
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"| no |\n|---|\n\nwords\n{table}\n"))
    monkeypatch.setattr(sys, "argv", ["render.py", "t"])
    render.main()
    assert (tmp_path / "results" / "t.csv").read_text() == 'a,"b, c"\n1,`x`\n'
    assert render.PAGE.read_text() == f"<!-- results/t.csv -->\n{table}<!-- end -->\nafter\n"
