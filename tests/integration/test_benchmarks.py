"""Benchmarks made for GPUs also run on any other machine."""

import io
import re
import sys

import pytest
from PIL import ExifTags, Image
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


def test_the_sample_set_is_made_small_without_metadata_and_the_same_each_time(
    tmp_path, monkeypatch, capsys
):
    module = load_benchmark("make_samples", monkeypatch)
    data, (kind, *others) = tmp_path / "train", module.KINDS
    for name, count in {kind: 40, **dict.fromkeys(others, 1)}.items():
        (data / name).mkdir(parents=True)
        for number in range(count):
            exif = Image.Exif()
            exif[ExifTags.Base.Artist] = "somebody"
            image = Image.new("RGB", (464, 348), (number, 99, 0))
            image.save(data / name / f"{number:03d}.jpg", exif=exif)
    made = []
    for folder in (tmp_path / "once", tmp_path / "again"):
        words = [module.__file__, "--data_dir", str(data), "--output_dir", str(folder)]
        monkeypatch.setattr(sys, "argv", words)
        module.main()
        files = sorted(folder.rglob("*.jpg"))
        made.append({file.relative_to(folder): file.read_bytes() for file in files})
    assert made[0] == made[1] and len(made[0]) == module.PHOTOS + len(others)
    for file in files:
        with Image.open(file) as image:
            assert image.size == (341, 256) and not image.getexif()
    assert f"{len(files)} photos of {len(module.KINDS)} kinds" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [module.__file__, "--data_dir", str(tmp_path)])
    with pytest.raises(SystemExit):
        module.main()
    assert "Name the `train` folder." in capsys.readouterr().err
