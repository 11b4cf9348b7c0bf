"""Hostile HTTP requests to the running demo: they reveal nothing of the server."""

import io
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from support.hostile_files import image_bytes
from support.runs import UNTRAINED_LABELS, save_untrained

pytest.importorskip("gradio", reason="the demo needs it")

from gradio.utils import get_upload_folder

from hffruits.demo.app import launch_demo
from hffruits.demo.uploads import NOT_SENT
from hffruits.demo.widgets import WRONG_FORM
from hffruits.models.examples import SHORT_SIDE, Example, load_examples, save_examples

JSON = {"content-type": "application/json"}
META = {"_type": "gradio.FileData"}
BECAME: dict[str, Callable[[Path, Path], None]] = {
    "nothing": lambda path, private: None,
    "link": lambda path, private: path.symlink_to(private),
    "device": lambda path, private: path.symlink_to("/dev/zero"),
    "fifo": lambda path, private: os.mkfifo(path),
    "folder": lambda path, private: path.mkdir(),
}
REFUSED = (403, {"detail": f"This file can't be read: {NOT_SENT}. Send it again."})

# Each function of the page that takes a file: what else it takes, and where the file goes.
TAKES: dict[str, Callable[[Any], list]] = {
    "predict": lambda file: [file],
    "explain": lambda file: [file],
    "keep_right": lambda file: [file],
    "keep_wrong": lambda file: [file, UNTRAINED_LABELS[0]],
    "batch": lambda file: [[file]],
    "learn": lambda file: [None, "Plum", [{"image": file}, {"image": file}]],
    "try_it": lambda file: [None, file],
    "try_it_1": lambda file: [None, file],
    "try_it_2": lambda file: [None, file],
}
PUBLIC = ("predict", "explain", "batch")
PLACES = [  # {} is the folder of uploads, {private} a photo beside it
    *("{private}", "{private}.missing", "/etc/passwd", "/dev/zero", "/", "/proc/1/mem"),
    *("{}", "{}/", "{}/link.jpg", "{}/loop", "{}/fifo", "{}/folder", "{}/folder/private.jpg"),
    *("{}/../private.jpg", "{}/x/../link.jpg", "{}/device", "{}/missing.jpg", "{}/batch/0/a.jpg"),
    *("file://{private}", "file:{private}", "%2Fetc%2Fpasswd", "~/.bashrc", "a.jpg"),
    *("C:\\Windows\\win.ini", "\\\\host\\share\\a.jpg", "{private}\0.jpg", "/\ud800.jpg", "", "."),
    "/" + "a" * 100_000,
]  # fmt: skip
ODD = [5, 1.5, True, None, [], ["/etc/passwd"], {}, {"path": "/etc/passwd"}]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """With four examples, of which one links elsewhere, and one is no photo."""
    folder = tmp_path_factory.mktemp("model") / "sample"
    save_untrained(folder, UNTRAINED_LABELS)
    photo = Image.effect_noise((600, 400), 90).convert("RGB")
    jpeg = io.BytesIO()
    photo.save(jpeg, "JPEG")
    examples = [Example(label, jpeg.getvalue()) for label in ("Kiwi", "<b>Kiwi", "Lime", "Pear")]
    save_examples(examples, folder)
    (folder / "examples" / "secret.jpg").write_bytes(jpeg.getvalue())
    (folder / "examples" / "3.jpg").write_bytes(b"no photo")
    (folder / "examples" / "4.jpg").unlink()
    (folder.parent / "private.jpg").write_bytes(jpeg.getvalue())
    (folder / "examples" / "4.jpg").symlink_to(folder.parent / "private.jpg")
    return folder


class Visitor:
    """A client that knows the page's address, and follows no rule."""

    def __init__(self, url: str, functions: dict[str, int]):
        self.http = httpx.Client(base_url=f"{url}gradio_api/", timeout=60)
        self.functions = functions
        self._sessions = count()

    def upload(self, content: bytes, name: str = "a.jpg") -> str:
        (path,) = self.http.post("upload", files={"files": (name, content)}).json()
        return path

    def join(self, function: str, data: list, session: str = "", **more: Any) -> tuple[int, Any]:
        """Ask by the function's number, which also reaches what no API lists."""
        session = session or f"session{id(self)}-{next(self._sessions)}"
        body = {"data": data, "fn_index": self.functions[function], "session_hash": session, **more}
        answer = self.http.post("queue/join", content=json.dumps(body), headers=JSON)
        if answer.status_code != 200:
            return answer.status_code, answer.json()
        with self.http.stream("GET", f"queue/data?session_hash={session}") as events:
            for line in events.iter_lines():
                if "process_completed" in line:
                    done = json.loads(line.removeprefix("data:"))
                    return 200, done["output"] if done["success"] else done["output"]["error"]
        raise AssertionError("no answer")


def said(answer: Any) -> str:
    """The error, or in the Teach tab the line that stands in its place."""
    text = answer if isinstance(answer, str) else json.dumps(answer["data"])
    return text.replace("&#x27;", "'")


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("saved")


@pytest.fixture(scope="module")
def server(model: Path, saved: Path, tmp_path_factory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("feedback")
    demo = launch_demo(str(model), feedback_dir=folder, save_dir=saved, prevent_thread_lock=True)
    yield demo
    demo.close(verbose=False)


@pytest.fixture(scope="module")
def visitor(server) -> Visitor:
    functions = {fn.api_name: number for number, fn in server.fns.items()}
    return Visitor(server.local_url, functions)


@pytest.fixture(scope="module")
def places(server) -> Iterator[list[str]]:
    """What lies on the server: a private photo, and links and devices where uploads are."""
    root = Path(get_upload_folder())
    private = root.parent / f"private-{os.getpid()}.jpg"
    private.write_bytes(image_bytes())
    (root / "link.jpg").symlink_to(private)
    (root / "loop").symlink_to(root / "loop")
    (root / "folder").symlink_to(root.parent)
    (root / "device").symlink_to("/dev/zero")
    os.mkfifo(root / "fifo")
    (root / "batch" / "0").mkdir(parents=True)
    (root / "batch" / "0" / "a.jpg").write_bytes(image_bytes())
    yield [place.replace("{private}", str(private)).replace("{}", str(root)) for place in PLACES]
    private.unlink()


@pytest.mark.parametrize("function", TAKES)
def test_an_uploaded_photo_is_answered(function: str, visitor: Visitor) -> None:
    path = visitor.upload(image_bytes())
    for file in ({"path": path, "meta": META}, {"path": path, "orig_name": "a.jpg", "meta": META}):
        status, answer = visitor.join(function, TAKES[function](file))
        assert status == 200 and answer["data"], answer


@pytest.mark.parametrize("meta", [{}, {"meta": META}, {"meta": {"_type": "x"}}, {"meta": "x"}])
@pytest.mark.parametrize("function", TAKES)
def test_no_path_but_an_uploads_is_opened_and_all_get_the_same_answer(
    function: str, meta: dict, visitor: Visitor, places: list[str], capfd
) -> None:
    for path in [*places, *ODD]:
        sent = TAKES[function]({"path": path, **meta})
        assert visitor.join(function, sent) == REFUSED, path
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("route", ["call/{}", "call/v2/{}", "run/{}", "api/{}"])
@pytest.mark.parametrize("function", PUBLIC)
def test_every_public_route_refuses_the_same(
    function: str, route: str, visitor: Visitor, places: list[str]
) -> None:
    answers = set()
    for path in [*places, *ODD]:
        data = TAKES[function]({"path": path})
        body = {"image": data[0], "files": data[0]} if "v2" in route else {"data": data}
        content = json.dumps(body)
        answer = visitor.http.post(route.format(function), content=content, headers=JSON)
        answers.add((answer.status_code, answer.content))
    ((status, content),) = answers
    assert (status, json.loads(content)) == REFUSED


def test_a_path_is_found_wherever_it_stands(visitor: Visitor, places: list[str]) -> None:
    number = visitor.functions["predict"]
    for body in (
        {"data": [[[{"a": {"path": places[0]}}]]]},
        {"data": [None], "event_data": {"value": {"path": places[0]}}},
        {"data": [{"video": {"path": places[0]}}]},
        [{"path": places[0]}],
    ):
        body = {**body, "fn_index": number, "session_hash": "x"} if isinstance(body, dict) else body
        assert visitor.http.post("queue/join", json=body).status_code == 403


def test_no_function_of_the_page_hands_a_visitors_file_to_gradios_own_decoders(server) -> None:
    takers = {fn.api_name for fn in server.fns.values() if any(map(_takes_files, fn.inputs))}
    assert takers == set(TAKES)
    assert not [
        fn.api_name for fn in server.fns.values() if fn.api_name in takers and fn.preprocess
    ]


def _takes_files(block) -> bool:
    return block.get_block_name() in ("image", "file", "gallery", "downloadbutton")


def test_what_was_removed_reads_like_what_never_was(visitor: Visitor) -> None:
    path = visitor.upload(image_bytes("PNG"), "removed.png")
    Path(path).unlink()
    (Path(path).parent / "b.png").symlink_to("/etc/passwd")
    for function in ("predict", "explain", "keep_right", "try_it"):
        file = {"path": path, "meta": META}
        assert NOT_SENT in said(visitor.join(function, TAKES[function](file))[1])


@pytest.mark.parametrize("function", [name for name in TAKES if name != "batch"])
def test_an_upload_that_became_a_link_a_device_or_a_fifo_is_not_read(
    function: str, visitor: Visitor, tmp_path: Path
) -> None:
    """As if somebody could change the folder: every reader checks for itself."""
    (tmp_path / "private.jpg").write_bytes(image_bytes())
    answers = []
    for number, make in enumerate(BECAME.values()):
        path = Path(visitor.upload(bytes([number]), f"{function}.jpg"))
        path.unlink()
        make(path, tmp_path / "private.jpg")
        answers.append(visitor.join(function, TAKES[function]({"path": str(path)})))
    assert {status for status, _ in answers} == {200}
    answered = {said(answer) for _, answer in answers}
    assert len(answered) == 1 and NOT_SENT in answered.pop()


def test_examples_are_answered_too(visitor: Visitor) -> None:
    for number in range(2):
        _, shown = visitor.join("show_example", [], event_data={"number": number})
        (file,) = shown["data"]
        assert visitor.join("predict", [file])[1]["data"][0]["label"] in UNTRAINED_LABELS
        with Image.open(io.BytesIO(visitor.http.get(f"file={file['path']}").content)) as image:
            assert image.format == "JPEG" and min(image.size) == SHORT_SIDE


def test_of_an_examples_folder_only_its_numbered_photos_are_shown_as_new_files(
    visitor: Visitor, model: Path
) -> None:
    """The one that links elsewhere, and the one that is no photo, are passed over."""
    assert len(load_examples(model)) == 3
    page = visitor.http.get("..").text
    assert page.count("data-number=") == 2 and "<b>Kiwi" not in page
    _, shown = visitor.join("show_example", [], event_data={"number": 0})
    for path in (model / "examples" / "1.jpg", model / "examples", model / "examples/secret.jpg"):
        assert visitor.http.get(f"file={path}").status_code == 403
        assert visitor.join("predict", [{"path": str(path)}]) == REFUSED
    assert str(model) not in json.dumps(shown) and str(model) not in page


def test_files_are_served_where_the_page_gave_out_their_names(
    visitor: Visitor, places: list[str]
) -> None:
    path = visitor.upload(image_bytes())
    assert visitor.http.get(f"file={path}").content == image_bytes()
    _, answer = visitor.join("explain", [{"path": path, "meta": META}])
    assert visitor.http.get(f"file={answer['data'][0]['path']}").status_code == 200
    answers = set()
    for place in places:
        if "\0" not in place and "\ud800" not in place and len(place) in range(2, 5000):
            for route in ("file=", "file/"):
                for asked in (visitor.http.get, visitor.http.head):
                    answer = asked(route + place)
                    answers.add((answer.status_code, answer.headers["content-length"]))
    answers.discard((404, "22"))  # what httpx itself normalises away: /file/../x
    answers.discard((405, "31"))
    assert len(answers) == 1 and answers.pop()[0] == 403


@pytest.mark.parametrize(
    "route",
    [
        *("component_server", "process_recording", "vibe-edit", "vibe-code", "undo-vibe-edit"),
        *("vibe-starter-queries", "stream/x", "stream/x/close", "mcp/", "profiling/clear"),
    ],
)  # fmt: skip
def test_what_the_page_does_not_need_is_not_there(route: str, visitor: Visitor) -> None:
    body = {"session_hash": "x", "component_id": 1, "fn_name": "ls", "data": ["/"]}
    assert visitor.http.post(route, json=body).status_code == 404
    files = {"video": ("a.mp4", b"#EXTM3U\n#EXTINF:9,\n/etc/passwd\n", "video/mp4")}
    assert visitor.http.post(route, files=files).status_code == 404


def test_no_state_is_written_for_a_deep_link(visitor: Visitor) -> None:
    visitor.join("predict", [{"path": visitor.upload(image_bytes()), "meta": META}])
    session = f"session{id(visitor)}-0"
    assert visitor.http.get(f"deep_link?session_hash={session}").status_code == 404
    assert not (Path(get_upload_folder()) / "deep_links").exists()


def test_static_routes_stay_in_their_folders(server) -> None:
    for route in ("static", "assets", "svelte", "gradio_api/custom_component/1/client/component"):
        for up in ("../" * 12, "%2e%2e/" * 12, "..%2f" * 12, "/", "%2f"):
            with httpx.Client() as http:
                request = http.build_request("GET", server.local_url)
                request.url = request.url.copy_with(raw_path=f"/{route}/{up}etc/passwd".encode())
                answer = http.send(request)
            assert answer.status_code in (403, 404) and "root:" not in answer.text


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 10**5, b"\xff\xfe", b"null", b'"x"'])
def test_odd_bodies_end_in_an_error_without_a_traceback(
    body: bytes, visitor: Visitor, capfd
) -> None:
    for route in ("queue/join", "call/predict", "run/predict", "cancel"):
        assert visitor.http.post(route, content=body, headers=JSON).status_code in (400, 422)
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("function", TAKES)
def test_a_payload_of_another_form_is_refused_without_a_traceback(
    function: str, visitor: Visitor, capfd
) -> None:
    path = visitor.upload(image_bytes())
    odd = ["x", 5, True, [], [5], [None], {}, {"image": 5}, {"image": "x"}]
    odd += [{"path": path, "orig_name": 5}, [{"path": path}], [[{"path": path}]]]
    payloads = [TAKES[function](file) for file in odd]
    for payload in [*payloads, payloads[0][:-1], payloads[0][:-2]]:  # too few values, too
        status, answer = visitor.join(function, payload)
        assert status == 200, payload
        assert isinstance(answer, str) or 'class="problem"' in said(answer).replace("\\", "")
    assert WRONG_FORM.partition(".")[0] in answer.replace("&#x27;", "'")
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    "asked",
    [
        *(None, 0, "x", [], ["number"], {}, {"number": None}, {"number": "0"}, {"number": [0]}),
        *({"number": number} for number in (-1, 2, 10**6, 0.0, "../1", {"number": 0})),
        {"path": "/etc/passwd"},
    ],
)
def test_an_example_that_is_not_there_leaves_no_traceback(
    asked: Any, visitor: Visitor, capfd
) -> None:
    status, answer = visitor.join("show_example", [], event_data=asked)
    assert status == 403 or isinstance(answer, str), answer
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    "asked",
    [
        ("POST", "call/nope", {"data": []}),
        ("POST", "queue/join", {"data": [], "fn_index": 999, "session_hash": "zz"}),
        ("POST", "run/predict", {"data": [], "fn_index": 999}),
        ("GET", "../?page=zz", None),
        ("GET", "../nope", None),
        ("GET", "queue/data?session_hash=zz", None),
        ("GET", "call/predict/zz", None),
    ],
)
def test_a_request_for_what_is_not_there_leaves_no_more_than_a_line_in_the_log(
    asked: tuple, visitor: Visitor, capfd
) -> None:
    method, route, body = asked
    # gradio breaks off what it has begun to answer
    with suppress(httpx.RemoteProtocolError), visitor.http.stream(method, route, json=body) as sent:
        sent.read()
    time.sleep(0.2)
    logged = "".join(capfd.readouterr())
    assert "Traceback" not in logged and len(logged) < 500, logged


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"data": [None], "fn_index": 0, "session_hash": "\ud800"}, 400),
        ({"data": ["\udfff"], "fn_index": 0, "session_hash": "x"}, 400),
        ({"data": [{"\ud800": 1}], "fn_index": 0, "session_hash": "x"}, 400),
        ({"data": [None], "fn_index": 0, "session_hash": "x" * 65}, 413),
        ({"data": [None], "fn_index": 0, "session_hash": ["x" * 1000]}, 413),
    ],
)
def test_what_would_fill_the_log_is_refused(
    body: dict, status: int, visitor: Visitor, capfd
) -> None:
    answer = visitor.http.post("queue/join", content=json.dumps(body), headers=JSON)
    assert answer.status_code == status
    visitor.join("predict", [None])
    time.sleep(0.2)
    assert "Traceback" not in "".join(capfd.readouterr())


def test_the_same_lesson_is_saved_once_and_without_telling_where(
    visitor: Visitor, saved: Path
) -> None:
    path = visitor.upload(image_bytes())
    session = "saver"
    lesson = [None, "Plum", [{"image": {"path": path}}] * 2]
    assert visitor.join("learn", lesson, session)[0] == 200
    first, *others = [visitor.join("save", [None], session)[1]["data"][1] for _ in range(3)]
    assert others == [first, first] and f"<code>{saved.name}/taught-plum</code>" in first
    assert [folder.name for folder in saved.glob("taught-*")] == ["taught-plum"]


def test_a_lesson_without_photos_says_so(visitor: Visitor) -> None:
    path = visitor.upload(b"no image")
    assert "Choose two or more photos first." in said(visitor.join("learn", [None, "Plum", []])[1])
    answer = said(visitor.join("learn", [None, "Plum", [{"image": {"path": path}}]])[1])
    assert ">1 could not be read" in answer and "0 of 0" not in answer


def test_what_is_wrong_with_a_lesson_is_answered_beside_it_and_clears_nothing(
    visitor: Visitor,
) -> None:
    photos = [{"image": {"path": visitor.upload(image_bytes())}}] * 2
    for name, answer in {
        "": "The new class has no name.",
        "Kiwi": "Kiwi: the model has Kiwi already.",
        "<img src=x onerror=alert(1)>\n": "&lt;img",
    }.items():
        _, _, name_box, photo_box, _, line = visitor.join("learn", [None, name, photos])[1]["data"]
        assert answer in line or name.startswith("<"), line
        assert "<img" not in line
        if not name.startswith("<"):
            assert 'class="problem"' in line
            assert name_box == photo_box == {"__type__": "update"}


def test_the_servers_figures_and_its_developers_routes_are_not_there(visitor: Visitor) -> None:
    for route in ("../monitoring/summary", "../monitoring", "dev/reload"):
        answer = visitor.http.get(route)
        assert answer.status_code in (403, 404), route


def test_browsers_load_the_images_of_a_strangers_card_from_nowhere_else(visitor: Visitor) -> None:
    policy = visitor.http.get("..").headers["content-security-policy"]
    for kind in ("img", "media", "connect"):
        assert f"{kind}-src 'self' data: blob:" in policy and "http" not in policy


def test_another_visitor_reaches_an_upload_only_by_its_full_path(visitor: Visitor) -> None:
    """Nothing lists it: not its folder, not the page, not what others were answered."""
    content = image_bytes("PNG")
    path = Path(visitor.upload(content, "mine.png"))
    other = Visitor(str(visitor.http.base_url).removesuffix("gradio_api/"), visitor.functions)
    folder = path.parent
    for guess in (folder, f"{folder}/", folder.parent, "mine.png", folder.parent / "mine.png"):
        assert other.http.get(f"file={guess}").status_code == 403
    for route in ("..", "../config", "info", "openapi.json", "startup-events", "app_id"):
        assert folder.name not in other.http.get(route).text
    assert len(folder.name) == 64
    assert other.http.get(f"file={path}").content == content


@pytest.mark.parametrize("name", [5, ["x"], {"path": None}, None, "x" * 10**5])
def test_an_odd_name_is_refused(name: Any, visitor: Visitor) -> None:
    file = {"path": visitor.upload(image_bytes()), "meta": META}
    status, answer = visitor.join("learn", [None, name, [{"image": file}] * 2])
    assert status == 403 or "name" in said(answer)


def test_with_a_password_no_route_answers_without_it_but_a_few_that_hold_nothing(
    model: Path,
) -> None:
    demo = launch_demo(str(model), auth="ann:secret", prevent_thread_lock=True)
    try:
        visitor = Visitor(demo.local_url, {fn.api_name: number for number, fn in demo.fns.items()})
        for function, takes in TAKES.items():
            if function in visitor.functions:
                assert visitor.join(function, takes(None))[0] == 401
        for route in ("upload", "call/predict", "call/v2/predict", "run/predict", "api/predict"):
            body = {"json": {"data": [None]}} if route != "upload" else {"files": {"files": b"x"}}
            assert visitor.http.post(route, **body).status_code == 401
        for route in (
            *(
                "info",
                "openapi.json",
                "queue/data?session_hash=x",
                "call/predict/x",
                "queue/status",
            ),
            *("upload_progress?upload_id=x", "../config", "../monitoring"),
            "../monitoring/summary",
        ):
            assert visitor.http.get(route).status_code == 401, route
    finally:
        demo.close(verbose=False)


# ---- how much may lie there ----


def test_uploads_are_bound_by_a_quarter_of_the_space_where_they_lie(
    visitor: Visitor, monkeypatch
) -> None:
    from hffruits.demo import upload_folder

    free = upload_folder.shutil.disk_usage("/")
    files = {"files": ("a.jpg", bytes(10**6))}
    monkeypatch.setattr(upload_folder, "MEASURED_FOR", 0.0)
    monkeypatch.setattr(upload_folder.shutil, "disk_usage", lambda _: free._replace(free=10**5))
    answer = visitor.http.post("upload", files=files)
    assert answer.status_code == 503 and "Try again in an hour" in answer.json()["detail"]
    monkeypatch.undo()
    assert visitor.http.post("upload", files=files).status_code == 200


def test_uploads_that_arrive_together_are_bound_together(visitor: Visitor, monkeypatch) -> None:
    """Each begins while there is room."""
    monkeypatch.setattr("hffruits.demo.upload_folder.MAX_BYTES", 3 * 10**6)
    monkeypatch.setattr("hffruits.demo.upload_folder.MEASURED_FOR", 0.0)
    barrier, statuses = threading.Barrier(8), []

    def chunks() -> Iterator[bytes]:
        head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'
        yield head + os.urandom(10)
        barrier.wait(30)
        for _ in range(10):
            yield bytes(10**5)
            time.sleep(0.02)
        yield b"\r\n--x--\r\n"

    def send() -> None:
        headers = {"content-type": "multipart/form-data; boundary=x"}
        statuses.append(visitor.http.post("upload", headers=headers, content=chunks()).status_code)

    senders = [threading.Thread(target=send) for _ in range(8)]
    for each in senders:
        each.start()
    for each in senders:
        each.join()
    assert statuses.count(503) >= 5 and set(statuses) <= {200, 503}


@pytest.mark.parametrize(
    "headers",
    [
        'Content-Disposition: form-data; name="q"',
        'Content-Disposition: form-data; name="files"; filename="a.jpg"\r\n'
        'Content-Disposition: form-data; name="q"',
        "Content-Type: image/jpeg",
        "",
    ],
)
def test_a_part_that_is_not_a_file_is_refused(visitor: Visitor, headers: str) -> None:
    content = f"--x\r\n{headers}\r\n\r\n".encode() + bytes(10**6) + b"\r\n--x--\r\n"
    kind = {"content-type": "multipart/form-data; boundary=x"}
    answer = visitor.http.post("upload", headers=kind, content=content)
    assert answer.status_code == 400 and "Only files" in answer.json()["detail"]


@pytest.mark.parametrize("kind", ["multipart/form-data", "text/plain", ""])
def test_an_upload_without_parts_is_refused(visitor: Visitor, kind: str) -> None:
    answer = visitor.http.post("upload", headers={"content-type": kind}, content=b"--x\r\n")
    assert answer.status_code == 400 and "Only files" in answer.json()["detail"]


def test_where_uploads_lie_and_how_much_may_is_said_at_the_start(
    model: Path, caplog, monkeypatch
) -> None:
    monkeypatch.setattr("gradio.Blocks.launch", lambda self, **options: None)
    monkeypatch.setattr("hffruits.demo.app.announce", lambda *_, **__: None)
    with caplog.at_level("INFO", "hffruits.demo.app"):
        launch_demo(str(model), prevent_thread_lock=True)
    (line,) = [line for line in caplog.messages if line.startswith("Uploads")]
    assert get_upload_folder() in line and "GB at most" in line
