"""The audit finds what was planted, and writes a page and a JSON file."""

import json
import shutil
from pathlib import Path

from PIL import Image

from hffruits.config import DataArguments
from hffruits.explore import explore


def test_planted_faults_are_found_and_written(drawn_fruits: Path, tmp_path: Path):
    root = tmp_path / "fruits"
    shutil.copytree(drawn_fruits, root)
    folders = sorted(path.parent for path in (root / "train").rglob("0.png"))
    first, second = folders[:2]
    held_out = root / "test" / first.relative_to(root / "train")
    Image.open(first / "0.png").convert("RGB").save(held_out / "leak.jpg", quality=80)
    shutil.copy(first / "1.png", second / "conflict.png")
    (first / "empty.jpg").touch()
    output = tmp_path / "audit"
    explore(DataArguments(data_dir=str(root)), output_dir=output, max_features=0)
    record = json.loads((output / "explore.json").read_text())
    findings = {finding["id"]: finding for finding in record["findings"]}

    def below(path: Path) -> str:
        return path.relative_to(root).as_posix()

    assert sorted([below(first / "0.png"), below(held_out / "leak.jpg")]) in map(
        sorted, findings["leaks"]["groups"]
    )
    assert sorted([below(first / "1.png"), below(second / "conflict.png")]) in map(
        sorted, findings["conflicts"]["groups"]
    )
    assert findings["unreadable"]["files"] == [below(first / "empty.jpg")]
    assert "repair" in findings["leaks"]["command"]
    page = (output / "explore.html").read_text()
    assert "leak.jpg" in page and 'src="http' not in page


def test_label_errors_and_the_map_come_from_features(drawn_fruits: Path, tmp_path: Path):
    output = tmp_path / "audit"
    record = explore(DataArguments(data_dir=str(drawn_fruits)), output_dir=output)
    assert record["summary"]["images"] == 64
    assert "t-SNE" in (output / "explore.html").read_text()
