"""The Hub emulator against real clients: what they push is what they load, also with faults."""

import json
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path

import httpx2
import huggingface_hub
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelCard
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from support import warm
from support.hub_server import OTHER_TOKEN, READ_TOKEN, TOKEN, Fault, Hub, Repo, serve_hub

KIWI = "user/kiwi"
CARD = """---
license: apache-2.0
pipeline_tag: image-classification
tags: [fruit]
model-index:
- name: kiwi
  results:
  - task: {type: image-classification}
    dataset: {name: Fruits, type: user/fruits}
    metrics: [{type: accuracy, value: 0.9}]
---
# Kiwi
"""


@pytest.fixture(autouse=True)
def online(monkeypatch):
    """The client of this process may reach the hub, and sends by LFS."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serve_hub({("model", KIWI): Repo()}, lfs_from=1000, part_size=4000) as hub:
        yield hub


@pytest.fixture
def api(hub) -> HfApi:
    return HfApi(endpoint=hub.url, token=TOKEN)


def add(path: str, content: bytes) -> CommitOperationAdd:
    return CommitOperationAdd(path, content)


def push(api: HfApi, files: dict[str, bytes], **more) -> str:
    """The commit that these files make."""
    operations = [add(path, content) for path, content in files.items()]
    return api.create_commit(KIWI, operations, commit_message="Push", **more).oid


def fetch(api: HfApi, path: str, folder: Path, revision: str | None = None) -> bytes:
    return Path(api.hf_hub_download(KIWI, path, revision=revision, cache_dir=folder)).read_bytes()


def status(error: pytest.ExceptionInfo[HfHubHTTPError]) -> int:
    return error.value.response.status_code


def run(code: str, environment: dict[str, str], folder: Path) -> object:
    """What a process of its own prints, as JSON."""
    done = warm.run(["-c", code], env=environment, cwd=folder, folder=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# ---- who asks ----


def test_a_token_tells_its_user_and_a_wrong_one_is_refused(hub, api):
    assert api.whoami()["name"] == "user"
    assert api.whoami(token=OTHER_TOKEN)["name"] == "other"
    assert api.whoami(token=READ_TOKEN)["auth"]["accessToken"]["role"] == "read"
    with pytest.raises(HfHubHTTPError, match="Invalid user token") as error:
        api.whoami(token="hf_wrong")
    assert status(error) == 401
    with pytest.raises(HfHubHTTPError, match="Invalid credentials") as error:
        api.repo_info(KIWI, token="hf_wrong")
    assert not isinstance(error.value, RepositoryNotFoundError)


@pytest.mark.parametrize("token, code", [(READ_TOKEN, 403), (OTHER_TOKEN, 403), (False, 401)])
def test_only_the_owner_with_a_writing_token_writes(hub, api, token, code):
    before = api.repo_info(KIWI).sha
    asked = [
        lambda: push(api, {"a.txt": b"a"}, token=token),
        lambda: api.delete_repo(KIWI, token=token),
        lambda: api.create_repo("user/new", token=token),
        lambda: api.create_branch(KIWI, branch="dev", token=token),
    ]
    for ask in asked:
        with pytest.raises(HfHubHTTPError) as error:
            ask()
        assert status(error) == code
    assert api.repo_info(KIWI).sha == before and list(hub.repos) == [("model", KIWI)]


def test_a_private_repo_is_unknown_to_strangers(hub, api, tmp_path):
    api.update_repo_settings(KIWI, private=True)
    assert api.repo_info(KIWI, token=READ_TOKEN).private
    for token, code in [(OTHER_TOKEN, 404), (False, 401)]:
        with pytest.raises(RepositoryNotFoundError) as error:
            api.repo_info(KIWI, token=token)
        assert status(error) == code
        with pytest.raises(RepositoryNotFoundError):
            api.hf_hub_download(KIWI, "a.txt", cache_dir=tmp_path, token=token)


def test_a_gated_repo_shows_its_names_but_not_its_files(hub, api, tmp_path):
    push(api, {"a.txt": b"a"})
    api.update_repo_settings(KIWI, gated="manual")
    assert api.repo_info(KIWI, token=OTHER_TOKEN).gated == "manual"
    for token, code in [(OTHER_TOKEN, 403), (False, 401)]:
        with pytest.raises(GatedRepoError) as error:
            api.hf_hub_download(KIWI, "a.txt", cache_dir=tmp_path, token=token)
        assert status(error) == code
    assert fetch(api, "a.txt", tmp_path) == b"a"


# ---- repositories ----


@pytest.mark.parametrize("kind", ["model", "dataset", "space"])
def test_a_repo_of_each_kind_is_made_filled_read_and_deleted(hub, api, tmp_path, kind):
    sdk = {"space_sdk": "gradio"} if kind == "space" else {}
    with pytest.raises(RepositoryNotFoundError):
        api.repo_info("user/new", repo_type=kind)
    for _ in range(2):
        url = api.create_repo("new", repo_type=kind, exist_ok=True, private=True, **sdk)
        assert (url.repo_id, url.repo_type) == ("user/new", kind)
    with pytest.raises(HfHubHTTPError) as error:
        api.create_repo("new", repo_type=kind, **sdk)
    assert status(error) == 409
    (tmp_path / "own/deep").mkdir(parents=True)
    (tmp_path / "own/a.txt").write_bytes(b"a")
    (tmp_path / "own/deep/b.bin").write_bytes(b"b" * 20)
    api.upload_folder(repo_id="user/new", repo_type=kind, folder_path=tmp_path / "own")
    folder = Path(api.snapshot_download("user/new", repo_type=kind, cache_dir=tmp_path / "cache"))
    assert (folder / "a.txt").read_bytes() == b"a"
    assert (folder / "deep/b.bin").read_bytes() == b"b" * 20
    assert api.repo_info("user/new", repo_type=kind).private
    api.delete_repo("user/new", repo_type=kind)
    assert not api.repo_exists("user/new", repo_type=kind)


def test_the_listings_tell_sizes_ids_and_the_commit_that_last_touched(api):
    first = push(api, {"a.txt": b"a", "deep/b.bin": b"b" * 20})
    push(api, {"c.txt": b"c"})
    entries = {entry.path: entry for entry in api.list_repo_tree(KIWI, recursive=True, expand=True)}
    assert sorted(entries) == ["a.txt", "c.txt", "deep", "deep/b.bin"]
    assert entries["a.txt"].size == 1
    assert entries["a.txt"].blob_id == "2e65efe2a145dda7ee51d1741299f848e5bf752e"  # git's own
    assert entries["deep/b.bin"].lfs.size == 20
    assert entries["deep"].last_commit.oid == entries["a.txt"].last_commit.oid == first
    assert [entry.path for entry in api.list_repo_tree(KIWI)] == ["a.txt", "c.txt", "deep"]
    assert [entry.path for entry in api.list_repo_tree(KIWI, "deep")] == ["deep/b.bin"]
    with pytest.raises(RemoteEntryNotFoundError):
        list(api.list_repo_tree(KIWI, "none"))
    (info,) = api.get_paths_info(KIWI, ["deep/b.bin", "none"])
    siblings = {file.rfilename: file for file in api.repo_info(KIWI, files_metadata=True).siblings}
    assert info.lfs.sha256 == siblings["deep/b.bin"].lfs.sha256 and siblings["a.txt"].size == 1


def test_names_of_any_letters_are_kept(api, tmp_path):
    path = "Früchte 1/柿 50%+#?.txt"
    push(api, {path: b"kaki"})
    assert fetch(api, path, tmp_path) == b"kaki"
    assert [entry.path for entry in api.list_repo_tree(KIWI, "Früchte 1")] == [path]
    with pytest.raises(RemoteEntryNotFoundError):
        list(api.list_repo_tree(KIWI, "柿"))


def test_long_listings_come_in_pages(hub, api):
    hub.page_size = 2
    push(api, {f"{number}.txt": b"x" for number in range(5)})
    assert len(list(api.list_repo_tree(KIWI))) == 5
    assert hub.count("GET", "/tree/") == 3


# ---- history ----


def test_every_commit_stays_readable_and_branches_and_tags_name_them(api, tmp_path):
    first = push(api, {"a.txt": b"one", "b.bin": b"1" * 9})
    api.create_tag(KIWI, tag="v1")
    second = push(api, {"a.txt": b"two", "b.bin": b"2" * 9})
    api.create_branch(KIWI, branch="wild/dev", revision=first)
    third = push(api, {"a.txt": b"three"}, revision="wild/dev", parent_commit=first)
    texts = {"main": b"two", "v1": b"one", first: b"one", second: b"two", "wild/dev": b"three"}
    for revision, text in texts.items():
        assert fetch(api, "a.txt", tmp_path, revision) == text
    assert fetch(api, "b.bin", tmp_path, first) == b"1" * 9
    refs = api.list_repo_refs(KIWI)
    heads = {branch.name: branch.target_commit for branch in refs.branches}
    assert heads == {"main": second, "wild/dev": third}
    assert [(tag.name, tag.target_commit) for tag in refs.tags] == [("v1", first)]
    shas = [commit.commit_id for commit in api.list_repo_commits(KIWI)]
    assert shas[:2] == [second, first] and len(shas) == 3
    assert api.repo_info(KIWI, revision="v1").sha == first
    with pytest.raises(RevisionNotFoundError):
        api.repo_info(KIWI, revision="v2")
    with pytest.raises(RevisionNotFoundError):
        fetch(api, "a.txt", tmp_path, "v2")
    api.create_tag(KIWI, tag="v1", exist_ok=True)
    with pytest.raises(HfHubHTTPError) as error:
        api.create_branch(KIWI, branch="wild/dev")
    assert status(error) == 409


def test_a_second_push_of_the_same_files_makes_no_commit_and_sends_nothing(hub, api):
    files = {"README.md": CARD.encode(), "model.safetensors": b"w" * 500}
    first, count = push(api, files), len(hub.requests)
    assert push(api, files) == first
    methods = {(method, path.rsplit("/", 1)[0]) for method, path, _ in hub.requests[count:]}
    assert ("POST", f"/api/models/{KIWI}/commit") not in methods
    assert hub.count("PUT", "/lfs/") == 1


def test_a_file_that_moves_is_not_sent_again(hub, api):
    push(api, {"a.bin": b"w" * 500})
    operations = [add("b.bin", b"w" * 500), CommitOperationDelete("a.bin")]
    api.create_commit(KIWI, operations, commit_message="Move")
    assert list(hub.repos["model", KIWI].files) == ["b.bin"]
    assert hub.count("PUT", "/lfs/") == 1


def test_a_commit_on_a_moved_head_is_refused(hub, api):
    first = push(api, {"a.txt": b"one"})
    second = push(api, {"a.txt": b"two"})
    with pytest.raises(HfHubHTTPError, match="A commit has happened since") as error:
        push(api, {"b.txt": b"b"}, parent_commit=first)
    assert status(error) == 412 and api.repo_info(KIWI).sha == second
    push(api, {"b.txt": b"b"}, parent_commit=second)


def test_a_commit_is_whole_or_nothing(hub, api):
    before = push(api, {"a.txt": b"a", "deep/b.txt": b"b"})
    operations = [add("c.txt", b"c"), CommitOperationDelete("none.txt")]
    with pytest.raises(RemoteEntryNotFoundError, match="differentiate file and folder"):
        api.create_commit(KIWI, operations, commit_message="Half")
    assert api.repo_info(KIWI).sha == before
    api.create_commit(KIWI, [CommitOperationDelete("deep/")], commit_message="Less")
    assert list(hub.repos["model", KIWI].files) == ["a.txt"]


def test_a_pointer_without_its_object_is_refused(hub, api):
    value = {"path": "a.bin", "algo": "sha256", "oid": "0" * 64, "size": 3}
    lines = [{"key": "header", "value": {"summary": "x"}}, {"key": "lfsFile", "value": value}]
    answer = httpx2.post(
        f"{hub.url}/api/models/{KIWI}/commit/main",
        content="\n".join(map(json.dumps, lines)),
        headers={"Authorization": f"Bearer {TOKEN}"},
    )
    assert answer.status_code == 400 and "a.bin" in answer.json()["error"]


def test_ignored_files_stay_behind(hub, api):
    push(api, {".gitignore": b"# no\n*.log\ncache/\n", "a.log": b"x", "cache/b.txt": b"x"})
    assert list(hub.repos["model", KIWI].files) == [".gitignore"]


# ---- large files ----


def test_a_large_file_goes_in_parts(hub, api, tmp_path):
    content = bytes(range(250)) * 36  # 9000 bytes: 4000 + 4000 + 1000
    push(api, {"model.safetensors": content})
    assert hub.count("PUT", "/lfs/", 200) == 3
    assert fetch(api, "model.safetensors", tmp_path) == content


def test_bytes_that_differ_from_those_announced_are_refused(hub, api):
    addition = add("a.bin", b"a" * 50)
    addition.upload_info.sha256 = b"\0" * 32
    with pytest.raises(RuntimeError, match=r"uploading 'a\.bin'") as error:
        api.create_commit(KIWI, [addition], commit_message="Wrong")
    assert "are not those of 000" in str(error.value.__cause__)
    assert not hub.repos["model", KIWI].objects


def test_a_push_after_a_broken_one_sends_only_what_is_missing(hub, api):
    files = {f"{name}.bin": name.encode() * 900 for name in "abc"}
    hub.faults += [Fault("/lfs/", method="PUT", status=403), Fault("/commit/", status=500)]
    with pytest.raises(RuntimeError, match="Error while uploading"):  # one object is refused
        push(api, files)
    with pytest.raises(HfHubHTTPError):  # all are there, but not the commit
        push(api, files)
    push(api, files)
    sent = [path for method, path, code in hub.requests if (method, code) == ("PUT", 200)]
    assert len(sent) == len(set(sent)) == 3 and len(hub.repos["model", KIWI].files) == 3


# ---- faults ----


@pytest.mark.parametrize("size, parts", [(900, 1), (9000, 3)])
def test_the_client_sends_a_piece_again_whose_upload_was_cut(hub, api, tmp_path, size, parts):
    hub.faults.append(Fault("/lfs/", method="PUT", cut_after=100, after=parts - 1))
    push(api, {"a.bin": b"a" * size})
    assert hub.count("PUT", "/lfs/", 0) == 1 and hub.count("PUT", "/lfs/", 200) == parts
    assert fetch(api, "a.bin", tmp_path) == b"a" * size


def test_a_cut_download_goes_on_where_it_was_cut(hub, api, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1000)  # else 10 MB
    content = bytes(range(250)) * 36
    push(api, {"a.bin": content})
    hub.faults.append(Fault("/resolve/", method="GET", cut_after=2500))
    assert fetch(api, "a.bin", tmp_path) == content
    assert hub.count("GET", "/resolve/", 200) == hub.count("GET", "/resolve/", 206) == 1


@pytest.mark.parametrize("code", [429, 500])
def test_the_client_asks_again_after_a_passing_refusal_before_the_commit(hub, api, code):
    hub.faults.append(Fault("/preupload/", status=code, headers={"Retry-After": "0"}))
    push(api, {"a.txt": b"a"})
    assert hub.count("POST", "/preupload/", code) == hub.count("POST", "/preupload/", 200) == 1


@pytest.mark.parametrize("code", [429, 500, 503])
def test_the_client_does_not_commit_again_after_a_refusal(hub, api, code):
    before = api.repo_info(KIWI).sha
    hub.faults.append(Fault("/commit/", status=code, headers={"Retry-After": "0"}))
    with pytest.raises(HfHubHTTPError) as error:
        push(api, {"a.txt": b"a"})
    assert status(error) == code and api.repo_info(KIWI).sha == before


def test_a_commit_whose_answer_is_lost_is_made(hub, api):
    hub.faults.append(Fault("/commit/", lose_answer=True))
    with pytest.raises(httpx2.RemoteProtocolError):
        push(api, {"a.txt": b"a"})
    assert hub.repos["model", KIWI].files == {"a.txt": b"a"}
    made = api.repo_info(KIWI).sha
    assert push(api, {"a.txt": b"a"}) == made


def test_a_commit_cut_on_its_way_is_not_made(hub, api):
    hub.faults.append(Fault("/commit/", cut_after=10))
    with pytest.raises((httpx2.RemoteProtocolError, httpx2.NetworkError)):
        push(api, {"a.txt": b"a"})
    assert hub.repos["model", KIWI].files == {}
    assert hub.requests[-1] == ("POST", f"/api/models/{KIWI}/commit/main", 0)


def test_half_a_commit_of_a_client_that_died_is_not_made(hub):
    lines = [{"key": "header", "value": {"summary": "Half"}}]
    lines.append({"key": "file", "value": {"path": "a.txt", "content": "YQ=="}})
    body = "".join(json.dumps(line) + "\n" for line in lines).encode()
    path = f"/api/models/{KIWI}/commit/main"
    head = f"POST {path} HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\n"
    with socket.create_connection(("127.0.0.1", hub.server_port)) as client:
        client.sendall(f"{head}Content-Length: {2 * len(body)}\r\n\r\n".encode() + body)
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    assert hub.repos["model", KIWI].files == {} and hub.requests == [("POST", path, 0)]


def test_a_slow_answer_comes_and_an_impatient_client_gives_up(hub, api):
    hub.faults.append(Fault("/api/models/", delay=0.3, times=2))
    assert api.repo_info(KIWI).id == KIWI
    with pytest.raises(httpx2.ReadTimeout):
        api.repo_info(KIWI, timeout=0.05)


def test_faults_pass_some_requests_first_and_are_counted_down(hub, api):
    hub.faults.append(Fault("/api/models/", method="GET", status=418, times=2, after=1))
    codes = []
    for _ in range(4):
        try:
            api.repo_info(KIWI)
        except HfHubHTTPError as error:
            codes.append(error.response.status_code)
        else:
            codes.append(200)
    assert codes == [200, 418, 418, 200]
    assert [code for *_, code in hub.requests] == codes


def test_no_token_is_kept_among_the_requests(hub, api):
    push(api, {"a.bin": b"a" * 20})
    assert TOKEN not in str(hub.requests)


# ---- cards ----


def test_a_valid_card_is_pushed_and_returned_with_the_model(hub, api, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
    ModelCard(CARD).validate()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        push(api, {"README.md": CARD.encode()})
    info = api.model_info(KIWI)
    assert (info.pipeline_tag, info.card_data.license) == ("image-classification", "apache-2.0")
    assert info.card_data.eval_results[0].metric_value == 0.9


BAD_CARDS = {
    "license": (("apache-2.0", "apache-9"), '"license" must be one of'),
    "yaml": (("[fruit]", "[fruit"), "Invalid YAML metadata"),
    "mapping": ((CARD, "---\n- a\n---\n"), "must be a mapping"),
    "tags": (("[fruit]", "fruit"), '"tags" must be an array'),
    "name": (("- name: kiwi", "- named: kiwi"), r'"model-index\[0\]\.name" is required'),
    "task": (("{type: image-classification}", "{}"), r'results\[0\]\.task\.type" is required'),
    "dataset": ((", type: user/fruits", ""), r'results\[0\]\.dataset\.type" is required'),
    "metric": ((", value: 0.9", ""), r'metrics\[0\]\.value" is required'),
}


@pytest.mark.parametrize("case", BAD_CARDS)
def test_a_bad_card_is_refused_before_anything_is_sent(hub, api, case):
    (old, new), message = BAD_CARDS[case]
    with pytest.raises(ValueError, match=message):
        push(api, {"README.md": CARD.replace(old, new).encode(), "a.bin": b"a" * 20})
    assert hub.requests == [("POST", "/api/validate-yaml", 400)]


def test_a_card_refused_by_validate_tells_the_error_as_a_line(hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
    card = ModelCard(CARD)
    card.data.license = "asdf"
    with pytest.raises(ValueError, match=r'^- Error: "license" must be one of'):
        card.validate()


@pytest.mark.parametrize(
    "card, message",
    [
        ("# Kiwi", "empty or missing yaml metadata in repo card"),
        (CARD.replace("tag: image", "tag: fruit"), '"fruit-classification" is not in the official'),
    ],
)
def test_a_thin_card_is_pushed_with_a_warning(api, card, message):
    with pytest.warns(UserWarning, match=message):
        push(api, {"README.md": card.encode()})


@pytest.mark.parametrize(
    "line, message",
    [
        ("sdk: tk", '"sdk" must be one of'),
        ("colorFrom: pinkish", '"colorFrom" must be one of'),
        ("app_file: ../app.py", '"app_file" must be'),
        ("sdk_version: latest", '"sdk_version" must be'),
    ],
)
def test_the_card_of_a_space_is_checked(hub, api, line, message):
    api.create_repo("show", repo_type="space", space_sdk="gradio")
    good = {"sdk": "gradio", "sdk_version": "6.0.1", "app_file": "app.py", "colorFrom": "pink"}
    key, value = line.split(": ")
    for metadata, bad in [(good, False), (good | {key: value}, True)]:
        lines = "\n".join(f"{name}: {text}" for name, text in metadata.items())
        operations = [add("README.md", f"---\n{lines}\n---\n# Show".encode())]
        commit = {"repo_id": "user/show", "repo_type": "space", "commit_message": "Card"}
        if not bad:
            api.create_commit(operations=operations, **commit)
            assert api.space_info("user/show").sdk == "gradio"
            continue
        with pytest.raises(ValueError, match=message):
            api.create_commit(operations=operations, **commit)


# ---- the libraries above ----

DATASETS = """
import json
from datasets import ClassLabel, Dataset, DatasetDict, load_dataset
rows = Dataset.from_dict({"name": ["kiwi", "lime"], "label": [0, 1]})
rows = rows.cast_column("label", ClassLabel(names=["Kiwi", "Lime"]))
both = DatasetDict({"train": rows, "test": rows.select([0])})
both.push_to_hub("user/fruits", private=True)
both.push_to_hub("user/fruits")
found = load_dataset("user/fruits")
streamed = load_dataset("user/fruits", split="train", streaming=True)
print(json.dumps([
    {split: rows["name"] [:] for split, rows in found.items()},
    found["train"].features["label"].names,
    [row["name"] for row in streamed],
]))
"""


@pytest.mark.slow
def test_datasets_pushes_a_dataset_and_loads_it(tmp_path):
    with serve_hub({}) as hub:
        found, names, streamed = run(DATASETS, hub.environment(tmp_path / "home"), tmp_path)
        assert hub.count("PUT", "/lfs/", 200) == 2  # the second push sends nothing
    assert found == {"train": ["kiwi", "lime"], "test": ["kiwi"]}
    assert names == ["Kiwi", "Lime"] and streamed == found["train"]
    assert hub.repos["dataset", "user/fruits"].private


TRANSFORMERS = """
import json, torch
from transformers import AutoConfig, AutoModelForImageClassification, ResNetConfig
config = ResNetConfig(
    embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic", num_labels=3
)
model = AutoModelForImageClassification.from_config(config).eval()
model.push_to_hub("user/tiny")
again = AutoModelForImageClassification.from_pretrained("user/tiny").eval()
pixels = torch.rand(1, 3, 32, 32)
with torch.no_grad():
    same = torch.equal(model(pixels).logits, again(pixels).logits)
print(json.dumps([same, AutoConfig.from_pretrained("user/tiny", revision="main").num_labels]))
"""


@pytest.mark.slow
def test_transformers_pushes_a_model_and_loads_it(tmp_path):
    with serve_hub({}) as hub:
        same, count = run(TRANSFORMERS, hub.environment(tmp_path / "home"), tmp_path)
    assert same and count == 3
    assert {"config.json", "model.safetensors"} <= set(hub.repos["model", "user/tiny"].files)


def test_the_environment_names_the_hub_and_drops_the_users_own_token(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_user")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert hub.environment(tmp_path)["HF_TOKEN"] == TOKEN
    known = hub.environment(tmp_path, token=None)
    ours = {key: value for key, value in known.items() if key.startswith("HF_")}
    assert ours == {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
