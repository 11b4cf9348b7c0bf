"""Models fetched from a Hub: complete, from one commit, cached; errors in one line."""

import json
import logging
import shlex
from functools import partial

import pytest
import torch
from huggingface_hub import HfApi, constants
from safetensors.torch import load_file, save
from support.drawing import draw_fruit
from support.hub_server import TOKEN, Fault, Repo
from support.runs import REPO_ID, UNTRAINED_LABELS, put

from hffruits import FruitClassifier, InputError
from hffruits.cli.main import main
from hffruits.cli.parser import command_line
from hffruits.core.hub_client import one_line, without_token
from hffruits.demo.app import open_model
from hffruits.hub.push_model import push
from hffruits.models import loading as models
from hffruits.models.fetching import fetch_model
from hffruits.models.names import check_model_name


@pytest.fixture
def pear():
    return draw_fruit("Pear", seed=3)


# ---- what is fetched ----


def test_an_older_revision_answers_as_it_did(local_hub, untrained, pear):
    first = push(untrained, REPO_ID).commit
    weights = load_file(untrained / "model.safetensors")
    weights["timm_model.classifier.bias"] += torch.tensor([9.0, 0.0, 0.0])
    put({"model.safetensors": save(weights, metadata={"format": "pt"})})
    HfApi().create_tag(REPO_ID, tag="v1", revision=first)
    old = FruitClassifier.from_pretrained(untrained).predict(pear)
    for revision in (first, "v1"):
        assert FruitClassifier.from_pretrained(REPO_ID, revision=revision).predict(pear) == old
    assert FruitClassifier.from_pretrained(REPO_ID).predict(pear).label == "Kiwi"


def test_no_pickle_code_or_folder_is_fetched(local_hub, untrained):
    push(untrained, REPO_ID)
    strange = ("pytorch_model.bin", "modeling.py", "splits/train.txt", "onnx/model.onnx", "a.pkl")
    put(dict.fromkeys(strange, b"x"))
    folder = fetch_model(REPO_ID)
    assert {file.name for file in folder.rglob("*")} == {
        *("config.json", "model.safetensors", "prototypes.safetensors", "metrics.json"),
    }


def test_all_files_are_of_one_commit_though_another_comes_meanwhile(
    local_hub, untrained, pear, monkeypatch
):
    push(untrained, REPO_ID)
    config = json.loads((untrained / "config.json").read_text())
    other = json.dumps(config | {"label_names": ["A", "B", "C"]}).encode()
    loaded = models.load_folder

    def late(*arguments, **options):
        put({"config.json": other, "prototypes.safetensors": b"other"})
        return loaded(*arguments, **options)

    here = FruitClassifier.from_pretrained(untrained).predict(pear)
    monkeypatch.setattr("hffruits.inference.engines.base.load_folder", late)
    assert FruitClassifier.from_pretrained(REPO_ID).predict(pear) == here


def test_fetched_models_are_not_fetched_again_and_work_without_network(
    local_hub, untrained, pear, monkeypatch
):
    push(untrained, REPO_ID)
    first = FruitClassifier.from_pretrained(REPO_ID).predict(pear)
    fetched = local_hub.count("GET", "/resolve/")
    assert FruitClassifier.from_pretrained(REPO_ID).predict(pear) == first
    assert local_hub.count("GET", "/resolve/") == fetched
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert FruitClassifier.from_pretrained(REPO_ID).predict(pear) == first


def test_a_model_on_the_hub_is_fine_tuned(local_hub, untrained):
    push(untrained, REPO_ID)
    model, _ = models.build_model(REPO_ID, labels=["Fig", "Plum"])
    own = load_file(untrained / "model.safetensors")["timm_model.conv_stem.weight"]
    assert torch.equal(model.timm_model.conv_stem.weight, own)
    assert list(model.config.id2label.values()) == ["Fig", "Plum"]


def test_the_demo_serves_a_hub_model_and_shows_its_figures(local_hub, untrained):
    head = push(untrained, REPO_ID).commit
    classifier, about, folder = open_model(REPO_ID, revision=head)
    assert classifier.labels == UNTRAINED_LABELS and REPO_ID in about
    assert (folder / "metrics.json").is_file()


# ---- faults ----


@pytest.mark.parametrize(
    "fault",
    [
        Fault("/resolve/", method="GET", cut_after=20_000),
        Fault("/resolve/", method="GET", status=500),
        Fault("/resolve/", method="GET", status=429, headers={"Retry-After": "0"}),
        Fault("/resolve/", method="HEAD", lose_answer=True),
        Fault("/tree/", status=503),
        Fault("/resolve/", delay=0.3),
    ],
    ids=["cut", "500", "429", "lost", "list", "slow"],
)
def test_a_transient_fault_is_retried(local_hub, untrained, pear, fault):
    push(untrained, REPO_ID)
    local_hub.faults.append(fault)
    there = FruitClassifier.from_pretrained(REPO_ID).predict(pear)
    assert there == FruitClassifier.from_pretrained(untrained).predict(pear)
    assert fault.times <= 0, "the fault did not happen"


def test_a_hub_that_fails_serves_what_was_fetched_before(local_hub, untrained, pear):
    push(untrained, REPO_ID)
    first = FruitClassifier.from_pretrained(REPO_ID).predict(pear)
    local_hub.faults.append(Fault("/api/", status=500, times=99))
    assert FruitClassifier.from_pretrained(REPO_ID).predict(pear) == first


# ---- what can't be had ----


REFUSED = {
    "missing": ("user/nothing", {}, "no such folder, and no such Hub model, or a private one"),
    "private": ("other/secret", {}, "Or your token may not see it"),
    "gated": ("other/gated", {}, "gated on the Hub. Accept its terms"),
    "revision": (REPO_ID, {"revision": "v9"}, "has no revision v9"),
    "bad name": ("user/a b", {}, "not a valid Hub id"),
    "pickled": ("user/pickled", {}, "has no model.safetensors. Other weights"),
    "code": ("user/code", {}, "needs code of its own, which is never run"),
    "empty": ("user/empty", {}, "has no config.json on the Hub"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_hub_model_that_cannot_be_fetched_is_explained_in_one_line(local_hub, untrained, case):
    push(untrained, REPO_ID)
    config = json.loads((untrained / "config.json").read_text())
    own = {"AutoConfig": "own.Config", "AutoModelForImageClassification": "own.Model"}
    weights = (untrained / "model.safetensors").read_bytes()
    local_hub.repos |= {
        ("model", "other/secret"): Repo({"config.json": b"{}"}, private=True),
        ("model", "other/gated"): Repo({"config.json": b"{}"}, gated=True),
        ("model", "user/empty"): Repo({"README.md": b""}),
        ("model", "user/pickled"): Repo(
            {"config.json": json.dumps(config).encode(), "pytorch_model.bin": b"\x80"}
        ),
        ("model", "user/code"): Repo(
            {
                "config.json": json.dumps(config | {"model_type": "own", "auto_map": own}).encode(),
                "model.safetensors": weights,
                "own.py": b"raise SystemExit('it ran')",
            }
        ),
    }
    name, options, message = REFUSED[case]
    with pytest.raises(InputError) as raised:
        FruitClassifier.from_pretrained(name, **options)
    assert str(raised.value).startswith(f"{name}: ") and message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_local_folder_called_like_a_user_hides_none_of_that_users_models(
    local_hub, untrained, tmp_path, monkeypatch
):
    push(untrained, "user/model-b")
    monkeypatch.chdir(tmp_path)
    for name in ("model-a", "other"):
        (tmp_path / "user" / name).mkdir(parents=True)
        (tmp_path / "user" / name / "config.json").write_text("{}")
    check_model_name("user/model-b")
    assert FruitClassifier.from_pretrained("user/model-b").labels == UNTRAINED_LABELS
    with pytest.raises(InputError, match="no such Hub model") as raised:
        FruitClassifier.from_pretrained("user/model-c")
    assert str(raised.value).endswith("Models in that folder here: user/model-a, user/other.")


def test_what_is_not_below_runs_is_not_looked_for_on_the_hub(local_hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "fruits").mkdir(parents=True)
    (tmp_path / "runs" / "fruits" / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"no such folder \(there is runs/fruits\)"):
        FruitClassifier.from_pretrained("runs/zzz")
    assert not local_hub.count("GET", "runs/zzz")


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": "hf-hub:other/net"},
        {"model_args": {"checkpoint_path": "/tmp/pickle.pt"}},
        {"model_args": {"pretrained_cfg_overlay": {"url": "http://elsewhere/x.pth"}}},
    ],
)
def test_a_config_that_points_elsewhere_is_refused(local_hub, untrained, change):
    config = json.loads((untrained / "config.json").read_text()) | change
    files = {"config.json": json.dumps(config).encode()}
    files["model.safetensors"] = (untrained / "model.safetensors").read_bytes()
    local_hub.repos["model", REPO_ID] = Repo(files)
    fine_tune = partial(models.build_model, labels=["a", "b"])
    for load in (FruitClassifier.from_pretrained, fine_tune):
        with pytest.raises(InputError, match=r"points elsewhere for weights"):
            load(REPO_ID)


def test_an_adapter_is_not_followed_to_its_base(local_hub, untrained, tmp_path):
    push(untrained, REPO_ID)
    put({"adapter_config.json": b'{"base_model_name_or_path": "other/pickled"}'})
    folder = fetch_model(REPO_ID)
    assert not (folder / "adapter_config.json").exists()
    assert FruitClassifier.from_pretrained(REPO_ID).labels == UNTRAINED_LABELS
    assert not local_hub.count("GET", "other/pickled")


def test_a_wrong_token_is_reported(local_hub, untrained, monkeypatch):
    push(untrained, REPO_ID, private=True)
    monkeypatch.setenv("HF_TOKEN", "hf_nobody_knows_this_one")
    with pytest.raises(InputError, match="the Hub rejects this token") as raised:
        FruitClassifier.from_pretrained(REPO_ID)
    assert "hf_nobody" not in str(raised.value)


# ---- tokens ----


SECRET = "hf_ThisTokenMustStaySecret123456"


def test_no_log_file_error_or_repository_ever_holds_the_token(
    local_hub, drawn_fruits, tmp_path, monkeypatch, capfd, caplog
):
    """Given by the environment and as a flag, in pushes that succeed and that fail in each way."""
    local_hub.accounts[SECRET] = local_hub.accounts[TOKEN]
    monkeypatch.chdir(tmp_path)
    train = ["train", str(drawn_fruits), "--output_dir", "run", "--num_train_epochs", "1"]
    train += ["--model_name_or_path", "test_efficientnet", "--pretrained", "false"]
    train += ["--image_size", "32", "--freeze", "none", "--push_to_hub", "--bf16", "false"]
    train += ["--hub_token", SECRET, "--hub_model_id", "user/fruits"]
    push = ["push", "run", "user/fruits"]
    no_writes = Fault("/preupload/", status=403)
    runs = [  # words, token, fault, exit code
        (train, "hf_wrong" + SECRET, None, 0),  # the flag counts
        (push, SECRET, None, 0),
        ([*push, "--private"], SECRET, None, 2),  # it is public
        (push, SECRET, no_writes, 2),
        (push, SECRET, Fault("whoami", status=401), 2),
        (push, SECRET + "\n ", None, 0),
        (push, "hf_wrong" + SECRET, None, 2),
        (["push-data", str(drawn_fruits), "user/photos"], SECRET, None, 0),
        (["space", "user/fruits", "demo", "--check", "none"], SECRET, None, 0),
        (["predict", "user/nothing", __file__], SECRET, None, 2),
    ]
    caplog.set_level(logging.DEBUG)
    for words, token, fault, code in runs:
        local_hub.faults[:] = [fault] if fault else []
        monkeypatch.setenv("HF_TOKEN", token)
        assert main(words) == code, words
    held = {"output": "".join(capfd.readouterr()).encode(), "log": caplog.text.encode()}
    assert len(held["log"]) > 100 and b"hffruits predict: error: user/nothing: " in held["output"]
    held |= {str(file): file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    for (_, name), repo in local_hub.repos.items():
        for commit in repo.commits.values():
            held |= {f"{name} {path}": file.content for path, file in commit.files.items()}
            held[f"{name} {commit.sha}"] = f"{commit.title} {commit.message}".encode()
    assert any("training_args.bin" in place for place in held)
    assert not [place for place, content in held.items() if SECRET.encode() in content]


def test_a_token_in_an_error_is_masked(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "unusual-token")
    text = f"Illegal header value b'Bearer unusual-token', {SECRET}"
    assert without_token(text) == "Illegal header value b'Bearer hf_***', hf_***"
    assert SECRET not in one_line(OSError(f"{SECRET}\nand more"))
    assert one_line("x " * 145 + SECRET) == "x " * 145 + "hf_***"
    assert without_token("hf_oauth_abcdefgh.payload.signature-x end") == "hf_*** end"
    assert without_token("given as a flag: odd$token", "odd$token") == "given as a flag: hf_***"


@pytest.mark.parametrize("words", [["--hub_token", "ab$c d'ef"], ["--hub-token=ab$c d'ef"]])
def test_a_command_is_recorded_without_its_token_whatever_that_holds(words):
    shown = command_line("train", ["fruits", *words, "--seed", "1"])
    assert "ab" not in shown and shlex.split(shown)[:3] == ["hffruits", "train", "fruits"]
    assert shlex.split(shown)[-2:] == ["--seed", "1"]
