"""Training on cached features: the same model and images, the frozen part computed once."""

import json
import os
import shutil
import signal
import sys
import time
from collections import namedtuple
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.runs import launch, quick_arguments
from torch import nn

from hffruits import InputError
from hffruits.core import environment
from hffruits.core.dataloader_workers import WorkersLostError
from hffruits.data.load import load_fruits
from hffruits.data.samplers import RowKey
from hffruits.models.batch_norm import set_policy
from hffruits.models.freezing import freeze_backbone
from hffruits.models.frozen_trunk import find_trunk
from hffruits.models.heads import head_names
from hffruits.models.loading import build_model
from hffruits.models.saving import save_model
from hffruits.training.arguments import ModelArguments
from hffruits.training.feature_cache import cache as caching
from hffruits.training.feature_cache.augment import MapAugmentation
from hffruits.training.feature_cache.compute import FrozenPart, SeededViews, compute_features
from hffruits.training.feature_cache.disk import (
    RECORD,
    NoRoomError,
    make_file,
    own_folder,
    room_for_features,
)
from hffruits.training.feature_cache.store import (
    MOST_VIEWS,
    FeatureRows,
    Unfinished,
    feature_key,
    open_features,
)
from hffruits.training.parser import parse_train_arguments
from hffruits.training.run import train

pytestmark = pytest.mark.usefixtures("without_report")


CACHED, PLAIN = {"feature_cache_views": 2}, {"feature_cache_views": 0}


@pytest.fixture
def small_net(shared) -> Callable[..., ModelArguments]:
    """Arguments of the smallest net, as if it were pretrained: its first half is frozen."""

    def save(folder: Path) -> None:
        model, processor = build_model("test_efficientnet", labels=["a", "b"], pretrained=False)
        save_model(model, processor, folder)

    return partial(ModelArguments, str(shared("small_net", save)), image_size=32)


@pytest.fixture
def features(tmp_path, monkeypatch) -> Path:
    """Where this test keeps its features."""
    monkeypatch.setenv("HFFRUITS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


def losses(folder: Path, key: str = "loss") -> list[float]:
    rows = json.loads((folder / "log_history.json").read_text())
    return [row[key] for row in rows if key in row]


def written(features: Path) -> dict[str, int]:
    """When each set of features was computed."""
    return {f.name: (f / "activations.bin").stat().st_mtime_ns for f in features.iterdir()}


def record(folder: Path) -> dict:
    return json.loads((folder / RECORD).read_text())


def read(folder: Path) -> torch.Tensor:
    """A copy of the cached numbers (views, rows, *shape), for the file may be written again."""
    shape = record(folder)["shape"]
    file = folder / "activations.bin"
    cached = torch.from_file(str(file), size=file.stat().st_size // 2, dtype=torch.float16)
    return cached.view(shape).clone()


def frozen_net(name: str, plan: str, *, pretrained: bool = False) -> nn.Module:
    torch.manual_seed(0)
    model, _ = build_model(name, labels=["a", "b", "c"], pretrained=pretrained)
    set_policy(model, "freeze")
    freeze_backbone(model, plan, head=head_names(model))
    return model.eval()


# ---- the trunk ----


@pytest.mark.parametrize(
    ("name", "plan", "last"),
    [
        ("test_efficientnet", "stages:2", "blocks.1"),
        ("test_efficientnet", "head_only", "bn2"),
        ("test_resnet", "half", "layer1"),
        ("test_convnext", "half", "stages.1"),
        ("test_vit", "stages:2", "blocks.1"),
        ("test_byobnet", "half", "stages.0"),
    ],
)
def test_the_two_parts_of_a_net_give_what_the_whole_gives(name, plan, last):
    model = frozen_net(name, plan)
    size = model.config.pretrained_cfg["input_size"][1:]
    pixels = torch.randn(5, 3, *size)
    trunk = find_trunk(model, pixels[:2])
    assert trunk.passed[-1].endswith(last)
    cached = trunk.activations(model, pixels)
    assert cached.shape == (5, *trunk.shape)
    with trunk.skipped(model, cached):
        parts = model(pixel_values=pixels[:1]).logits
    assert torch.allclose(parts, model(pixel_values=pixels).logits, atol=1e-5)


def test_the_frozen_part_does_not_run_and_the_rest_gets_the_same_gradients():
    model = frozen_net("test_efficientnet", "stages:2")
    pixels = torch.randn(4, 3, 64, 64)
    trunk = find_trunk(model, pixels)
    model(pixel_values=pixels).logits.square().sum().backward()
    whole = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    ran = []
    for name in trunk.passed:
        for part in model.get_submodule(name).modules():
            if isinstance(part, nn.Conv2d) and part is not model.get_submodule(name):
                part.register_forward_hook(lambda *_: ran.append(1))
    cached = trunk.activations(model, pixels).detach()
    assert ran
    ran.clear()
    with trunk.skipped(model, cached):
        model(pixel_values=pixels[:1]).logits.square().sum().backward()
    assert not ran
    found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == whole.keys()
    for name, gradient in whole.items():
        assert torch.allclose(found[name], gradient, rtol=1e-3, atol=1e-5), name
    assert not [module for module in model.modules() if "forward" in vars(module)]


def test_a_net_without_frozen_first_stages_is_refused():
    model, _ = build_model("test_efficientnet", labels=["a", "b"], pretrained=False)
    with pytest.raises(InputError, match="no first stages are frozen"):
        find_trunk(model, torch.randn(2, 3, 64, 64))


class Skipping(nn.Module):
    """A net whose end reads its input again, so that no split of it leaves the same."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3), nn.Linear(7, 2)
        self.first.requires_grad_(False)

    def forward(self, pixel_values):
        seen = torch.cat([self.first(pixel_values).mean((2, 3)), pixel_values.mean((2, 3))], 1)
        return namedtuple("Output", "logits")(self.last(seen))


@pytest.mark.parametrize("images", [1, 2])  # with two, the shapes don't fit either
def test_a_net_that_needs_more_than_the_cut_keeps_is_refused(images: int):
    with pytest.raises(InputError, match="can't be split there"):
        find_trunk(Skipping(), torch.randn(images, 3, 16, 16))


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("name", ["efficientnet_lite0", "test_resnet", "test_vit"])
def test_the_fast_frozen_part_equals_the_net_and_does_not_change_it(name, bf16):
    model = frozen_net(name, "half", pretrained=name == "efficientnet_lite0")
    size = model.config.pretrained_cfg["input_size"][1:]
    pixels = torch.randn(5, 3, *size)
    trunk = find_trunk(model, pixels[:2])
    before = [type(module) for module in model.modules()]
    cached = FrozenPart.of(model, trunk, bf16=bf16)(pixels)
    assert cached.dtype == torch.float16 and cached.shape == (5, *trunk.shape)
    expected = trunk.activations(model, pixels)
    error = (cached - expected).norm() / expected.norm()
    assert error < (0.05 if bf16 else 1e-3)
    assert [type(module) for module in model.modules()] == before


# ---- training ----


def test_cached_views_for_every_epoch_train_like_the_images(
    drawn_fruits, tmp_path, features, monkeypatch
):
    """To the rounding of the cached numbers, but for flips and crops; the saved model is whole."""
    monkeypatch.setattr(MapAugmentation, "__call__", lambda self, maps, step: maps)
    options = {"num_train_epochs": 2, "logging_steps": 1}
    for name, views in (("plain", PLAIN), ("cached", CACHED)):
        model = ModelArguments(image_size=64, **views)  # a net that learns
        train(*quick_arguments(drawn_fruits, tmp_path / name, model=model, **options))
    plain, cached = (losses(tmp_path / name) for name in ("plain", "cached"))
    assert len(cached) == 8 and cached == pytest.approx(plain, rel=0.1)
    assert cached[:2] == pytest.approx(plain[:2], rel=1e-3)
    assert losses(tmp_path / "cached", "eval_loss") == pytest.approx(
        losses(tmp_path / "plain", "eval_loss"), rel=0.1
    )
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("plain", "cached")]
    assert weights[0].keys() == weights[1].keys()
    stem = "timm_model.conv_stem.weight"
    assert torch.equal(weights[0][stem], weights[1][stem])


def test_features_are_kept_for_the_next_run(drawn_fruits, tmp_path, features, small_net):
    train(*quick_arguments(drawn_fruits, tmp_path / "a", model=small_net(**CACHED)))
    made = written(features)
    assert len(made) == 2  # of train and validation
    train(*quick_arguments(drawn_fruits, tmp_path / "b", model=small_net(**CACHED)))
    assert written(features) == made
    assert losses(tmp_path / "a") == losses(tmp_path / "b")


@pytest.mark.slow
def test_changed_photos_are_scanned_again(make_folder, tmp_path, features, small_net):
    root = make_folder({"train/Apple": 6, "train/Lime": 6, "val/Apple": 3, "val/Lime": 3})
    train(*quick_arguments(root, tmp_path / "a", model=small_net(**CACHED)))
    before = len(list(features.iterdir()))
    photo = root / "train" / "Apple" / "0.jpg"
    os.utime(photo, ns=(1, 1))
    train(*quick_arguments(root, tmp_path / "b", model=small_net(**CACHED)))
    assert len(list(features.iterdir())) == before + 1


@pytest.mark.slow
def test_two_processes_share_what_each_has_computed(drawn_fruits, tmp_path, features, small_net):
    model = small_net(**CACHED)
    words = [drawn_fruits, "--num_train_epochs=2", "--bf16=false", "--image_size=32"]
    words += ["--model_name_or_path", model.model_name_or_path, "--per_device_train_batch_size=8"]
    words += ["--feature_cache_views=2", "--output_dir"]
    done = launch([*words, tmp_path / "two"])
    assert done.returncode == 0, done.stderr
    cached = next(folder for folder in features.iterdir() if record(folder)["shape"][0] == 2)
    two = read(cached)
    assert two.flatten(2).abs().amax(2).gt(0).all()  # no row was left out
    shutil.rmtree(features)
    train(*quick_arguments(drawn_fruits, tmp_path / "one", model=small_net(**CACHED)))
    one = read(cached)
    assert torch.allclose(one.float(), two.float(), atol=2e-2)


@pytest.mark.parametrize(
    ("model", "options", "room", "views"),
    [
        ({}, {}, 10**12, 2),
        ({}, {}, 1000, 0),
        ({"freeze": "none"}, {}, 10**12, 0),
        ({}, {"mixup_alpha": 0.2}, 10**12, 0),
    ],
    ids=["room", "no room", "nothing frozen", "mixup"],
)
def test_features_are_cached_by_default_where_possible(
    drawn_fruits, tmp_path, features, monkeypatch, model, options, room, views, small_net
):
    monkeypatch.setattr("hffruits.training.feature_cache.cache.room_for_features", lambda: room)
    arguments = small_net(**model)
    options |= {"num_train_epochs": 2}
    train(*quick_arguments(drawn_fruits, tmp_path / "run", model=arguments, **options))
    recorded = json.loads((tmp_path / "run" / "training_args.json").read_text())
    assert recorded["model"]["feature_cache_views"] == views
    assert features.exists() == (views > 0)


def test_workers_compute_what_one_process_computes(
    drawn_fruits, tmp_path, features, monkeypatch, small_net
):
    found = []
    for cores in (1, 2):
        monkeypatch.setattr(
            "hffruits.training.feature_cache.compute.cores_per_process", lambda n=cores: n
        )
        shutil.rmtree(features, ignore_errors=True)
        train(*quick_arguments(drawn_fruits, tmp_path / str(cores), model=small_net(**CACHED)))
        found.append([read(folder) for folder in sorted(features.iterdir())])
    assert len(found[0]) == 2
    for one, two in zip(*found, strict=True):
        assert torch.allclose(one.float(), two.float(), atol=2e-2)


def test_each_epoch_sees_the_next_view():
    cached = torch.arange(6).view(3, 2, 1)
    rows = FeatureRows(cached, [0, 1])
    assert [int(rows[RowKey(epoch, 1)]["activations"]) for epoch in range(4)] == [1, 3, 5, 1]
    assert int(rows[1]["activations"]) == 1 and rows[1]["labels"] == 1


# ---- the disk ----


SIZE = 4 * 24 * 16 * 16 * 2  # bytes of one view of 4 rows in half precision


@pytest.fixture
def small_cut():
    trunk = find_trunk(frozen_net("test_efficientnet", "stages:2"), torch.randn(1, 3, 64, 64))
    assert 4 * trunk.shape.numel() * 2 == SIZE
    return trunk


def filled_with(value: float, rows: Sequence[int] | None = None) -> Callable[[Unfinished], None]:
    """What gives each row that is missing this value; or only these rows, and is ended then."""

    def fill(unfinished: Unfinished) -> None:
        chosen = unfinished.missing() if rows is None else rows
        views, _, *shape = unfinished.activations.shape
        unfinished.put(chosen, torch.full((len(chosen), views, *shape), value).half())
        if rows is not None:
            raise KeyboardInterrupt

    return fill


def set_free(monkeypatch, free: int) -> None:
    """Free bytes of a disk that holds no features yet."""
    usage = namedtuple("usage", "free")

    def disk_usage(root):
        cached = sum(file.stat().st_size for file in Path(root).glob("*/activations.bin"))
        return usage(free - cached)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)


@pytest.mark.parametrize(
    ("in_use", "stay"), [((), {"newer", "third"}), (("older",), {"older", "third"})]
)
def test_the_features_used_longest_ago_make_room_for_new_ones(
    tmp_path, monkeypatch, small_cut, in_use, stay
):
    """All together take no more than half of what is free without them."""
    set_free(monkeypatch, 4 * SIZE)
    for age, key in enumerate(("older", "newer")):
        open_features(key, 1, 4, small_cut, filled_with(0), cache_dir=tmp_path)
        os.utime(tmp_path / "features" / key / RECORD, ns=(age, age))
    open_features("third", 1, 4, small_cut, filled_with(0), in_use=in_use, cache_dir=tmp_path)
    assert {folder.name for folder in (tmp_path / "features").iterdir()} == stay


def test_a_full_disk_is_reported_and_nothing_is_removed(tmp_path, monkeypatch, small_cut):
    set_free(monkeypatch, 4 * SIZE)
    open_features("first", 1, 4, small_cut, filled_with(0), cache_dir=tmp_path)
    with pytest.raises(InputError, match=r"cache_views: needs .* GB in .* Cache fewer views"):
        open_features("large", 3, 4, small_cut, filled_with(0), cache_dir=tmp_path)
    assert [folder.name for folder in (tmp_path / "features").iterdir()] == ["first"]


def test_a_disk_that_fills_up_in_spite_of_the_estimate_is_an_error(
    tmp_path, monkeypatch, small_cut
):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(InputError, match="feature_cache_views: needs"):
        open_features("key", 1, 4, small_cut, filled_with(0), cache_dir=tmp_path)
    assert not list((tmp_path / "features").iterdir())


def test_of_two_runs_that_fill_the_same_the_first_is_kept(tmp_path, small_cut):
    def fill(unfinished):
        """And while it does, another run does the same, and is done earlier."""
        filled_with(1)(unfinished)
        open_features("key", 1, 4, small_cut, filled_with(2), cache_dir=tmp_path)

    cached = open_features("key", 1, 4, small_cut, fill, cache_dir=tmp_path)
    assert (cached == 2).all()
    assert [folder.name for folder in (tmp_path / "features").iterdir()] == ["key"]


def test_truncated_features_are_computed_again(tmp_path, small_cut):
    open_features("key", 1, 4, small_cut, filled_with(1), cache_dir=tmp_path)
    with (tmp_path / "features" / "key" / "activations.bin").open("r+b") as file:
        file.truncate(SIZE - 2)
    made = open_features("key", 1, 4, small_cut, filled_with(2), cache_dir=tmp_path)
    assert (made == 2).all()


def test_what_another_run_is_filling_counts(tmp_path, monkeypatch, small_cut):
    monkeypatch.setenv("HFFRUITS_CACHE", str(tmp_path))
    set_free(monkeypatch, 4 * SIZE)
    root = tmp_path / "features"
    root.mkdir()
    with own_folder(root, "busy") as aside:
        make_file(aside, SIZE + 2)
        for _ in range(2):  # the first check doesn't hide it from the second
            assert room_for_features() == 2 * SIZE - (SIZE + 2)
        with own_folder(root, "busy") as another:
            assert another != aside
        with pytest.raises(NoRoomError, match="feature_cache_views: needs"):
            open_features("key", 1, 4, small_cut, filled_with(0), cache_dir=tmp_path)
        assert aside.is_dir()
    assert room_for_features() == 2 * SIZE  # it is a leftover now, and goes first
    open_features("key", 1, 4, small_cut, filled_with(0), cache_dir=tmp_path)
    assert [folder.name for folder in root.iterdir()] == ["key"]


def test_rows_that_an_ended_run_has_computed_are_not_computed_again(tmp_path, small_cut):
    with pytest.raises(KeyboardInterrupt):
        open_features("key", 2, 4, small_cut, filled_with(1, rows=[0, 1, 3]), cache_dir=tmp_path)
    (left,) = (tmp_path / "features").iterdir()
    assert left.name.startswith(".key")
    with (left / "activations.bin").open("r+b") as file:  # not all of it came onto the disk
        file.seek(3 * SIZE // 4)  # row 3 of the first view
        file.write(bytes(2))
    made = open_features("key", 2, 4, small_cut, filled_with(2), cache_dir=tmp_path)
    assert [float(made[0, row].max()) for row in range(4)] == [1, 1, 2, 2]
    assert [float(made[1, row].min()) for row in range(4)] == [1, 1, 2, 2]
    files = {path.name for path in (tmp_path / "features").rglob("*") if path.is_file()}
    assert files == {"activations.bin", "activations.json"}


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path, small_cut):
    (tmp_path / "features").touch()
    with pytest.raises(InputError, match=r"features can't be written .* Set HFFRUITS_CACHE"):
        open_features("key", 1, 4, small_cut, filled_with(0), cache_dir=tmp_path)


def test_leftovers_of_killed_runs_are_cleared_away(tmp_path, small_cut):
    for name, age in ((".old", 2 * 86_400), (".new", 60)):
        aside = tmp_path / "features" / name
        aside.mkdir(parents=True)
        (aside / "activations.bin").touch()
        when = time.time() - age
        os.utime(aside / "activations.bin", (when, when))
    open_features("key", 1, 4, small_cut, filled_with(0), cache_dir=tmp_path)
    assert {folder.name for folder in (tmp_path / "features").iterdir()} == {".new", "key"}


def test_the_name_of_features_says_what_they_are_of(small_cut):
    net = frozen_net("test_efficientnet", "stages:2")
    key = feature_key(net, small_cut, ("photos", "light"))
    nn.init.ones_(net.timm_model.classifier.weight)  # learns, so it doesn't count
    assert feature_key(net, small_cut, ("photos", "light")) == key
    assert feature_key(net, small_cut, ("photos", "strong")) != key
    assert feature_key(net, replace(small_cut, passed=small_cut.passed[:-1]), ()) != key
    nn.init.ones_(net.timm_model.conv_stem.weight)
    assert feature_key(net, small_cut, ("photos", "light")) != key


@pytest.mark.parametrize("package", ["torch", "torchvision", "transformers", "timm", "numpy"])
def test_features_of_another_version_of_what_computes_have_another_name(
    small_cut, monkeypatch, package
):
    net = frozen_net("test_efficientnet", "stages:2")
    key = feature_key(net, small_cut, ())
    installed = environment.version
    monkeypatch.setattr(
        environment, "version", lambda name: "0.1" if name == package else installed(name)
    )
    assert feature_key(net, small_cut, ()) != key


@pytest.mark.parametrize("change", [{"bf16": True}, {"seed": 7}])
def test_cached_features_are_reused_only_for_the_same_settings(
    drawn_fruits, tmp_path, features, change, small_net
):
    train(*quick_arguments(drawn_fruits, tmp_path / "a", model=small_net(**CACHED)))
    made = written(features)
    train(*quick_arguments(drawn_fruits, tmp_path / "b", model=small_net(**CACHED), **change))
    assert len(written(features)) == (4 if "bf16" in change else 3)  # validation has no seed
    assert written(features).items() >= made.items()


def test_no_run_is_removed_for_one_that_has_no_space(
    drawn_fruits, tmp_path, features, monkeypatch, small_net
):
    train(*quick_arguments(drawn_fruits, tmp_path / "run", model=small_net(**PLAIN)))
    set_free(monkeypatch, 10)
    with pytest.raises(InputError, match="feature_cache_views: needs"):
        options = {"model": small_net(**CACHED), "overwrite_output_dir": True}
        train(*quick_arguments(drawn_fruits, tmp_path / "run", **options))
    assert (tmp_path / "run" / "model.safetensors").is_file()


def fill_disk_after_the_choice(monkeypatch) -> None:
    """There is room when features are chosen, and none when they are to be made."""
    choose = caching.room_for_features

    def room():
        found = choose()
        set_free(monkeypatch, 10)
        return found

    monkeypatch.setattr(caching, "room_for_features", room)


def test_a_run_without_space_for_its_features_trains_on_the_photos(
    drawn_fruits, tmp_path, features, monkeypatch, caplog, small_net
):
    fill_disk_after_the_choice(monkeypatch)
    model = small_net()
    caplog.set_level("INFO", logger="hffruits")
    train(*quick_arguments(drawn_fruits, tmp_path / "run", model=model))
    assert (
        "features are not cached, training reads the photos: feature_cache_views: needs"
        in caplog.text
    )
    recorded = json.loads((tmp_path / "run" / "training_args.json").read_text())
    assert recorded["model"]["feature_cache_views"] == 0


def test_with_full_determinism_it_is_an_error(
    drawn_fruits, tmp_path, features, monkeypatch, small_net
):
    fill_disk_after_the_choice(monkeypatch)
    model, options = small_net(), {"full_determinism": True}
    with pytest.raises(NoRoomError, match="feature_cache_views: needs"):
        train(*quick_arguments(drawn_fruits, tmp_path / "run", model=model, **options))
    torch.use_deterministic_algorithms(False)


class Deadly(SeededViews):
    """Images that kill the worker that asks for them."""

    def image(self, index: int):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="without workers")
def test_a_worker_that_was_killed_is_an_error(drawn_fruits, small_cut, monkeypatch):
    monkeypatch.setattr("hffruits.training.feature_cache.compute.cores_per_process", lambda: 2)
    split = load_fruits(drawn_fruits).split("train").select(range(4))
    images = Deadly(split, lambda image: image, views=1, seed=0)
    activations = torch.zeros((1, 4, *small_cut.shape), dtype=torch.float16)
    target = Unfinished(activations, torch.zeros(4, dtype=torch.int64))
    model = frozen_net("test_efficientnet", "stages:2")
    with pytest.raises(WorkersLostError, match="a DataLoader worker was killed"):
        compute_features(model, small_cut, images, target)
    assert target.missing() == [0, 1, 2, 3]


def test_features_need_no_workers(drawn_fruits, tmp_path, features, small_net):
    """Which couldn't be spawned with a file that is mapped."""
    options = {"dataloader_num_workers": 2, "dataloader_multiprocessing_context": "spawn"}
    options |= {"dataloader_persistent_workers": True, "dataloader_prefetch_factor": 2}
    train(*quick_arguments(drawn_fruits, tmp_path / "run", model=small_net(**CACHED), **options))
    assert len(losses(tmp_path / "run")) == 2


@pytest.mark.slow
def test_few_photos_have_more_views(make_folder, tmp_path, features, small_net):
    photos = make_folder({"train/Apple": 6, "train/Lime": 6, "val/Apple": 3, "val/Lime": 3})
    options = {"num_train_epochs": 10, "eval_strategy": "no", "load_best_model_at_end": False}
    train(*quick_arguments(photos, tmp_path, model=small_net(), **options))
    recorded = json.loads((tmp_path / "training_args.json").read_text())
    assert recorded["model"]["feature_cache_views"] == 10


# ---- words ----


@pytest.mark.parametrize("views", [-1, MOST_VIEWS + 1])
def test_a_number_of_views_out_of_range_is_an_error(tmp_path, views):
    arguments = ModelArguments(feature_cache_views=views)
    with pytest.raises(InputError, match=f"feature_cache_views={views}: must be between 0 and"):
        train(*quick_arguments(tmp_path / "no data", tmp_path / "run", model=arguments))


@pytest.mark.parametrize("text", ["views:8", "none", "auto", "2.5"])
def test_views_that_are_no_number_are_an_error(text, capsys):
    with pytest.raises(SystemExit) as stop:
        parse_train_arguments([f"--feature_cache_views={text}"])
    assert stop.value.code == 2
    assert f"--feature_cache_views: invalid int value: '{text}'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ({"freeze": "none"}, {}, "needs stages that stay frozen"),
        ({"freeze": "gradual"}, {}, "needs stages that stay frozen"),
        ({"lora_rank": 4}, {}, "needs photos at hand and frozen stages"),
        ({}, {"mixup_alpha": 0.2}, "cached features can't be mixed"),
        ({}, {"activation_checkpointing": True}, "can't be run by itself there"),
    ],
)
def test_options_that_exclude_the_feature_cache_are_reported(
    drawn_fruits, tmp_path, model, options, message
):
    arguments = ModelArguments(feature_cache_views=2, **model)
    with pytest.raises(InputError, match=message):
        train(*quick_arguments(drawn_fruits, tmp_path / "run", model=arguments, **options))
