"""Load test of the demo: latency, memory, and whether every response is correct.

    python benchmarks/load.py --model runs/fruits --data_dir fruits --minutes 5

Starts the demo on this machine. Many clients send photos and, in one request of five, a hostile or
odd file of `tests/support/hostile_files.py`. A response is wrong if a class or a score differs from
the prediction of `FruitClassifier`, or if a hostile file gets a prediction. Plots memory and
latency as PNG. The exit code is 1 after a wrong response, any error other than a full queue, no
correct response at all, or if the server exits early or with an error.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
import psutil
from matplotlib.figure import Figure

from hffruits.data.images import list_images
from hffruits.demo.uploads import open_upload
from hffruits.inference.classifier import FruitClassifier

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "scripts")]
from demo_server import serve_demo  # noqa: E402
from support.hostile_files import ACCEPTED, REFUSED  # noqa: E402

EXPECTED = ("correct", "rejected", "busy")  # anything else is a failure


class Sent(NamedTuple):
    """A file, and the expected scores by class; None for one that must be rejected."""

    name: str
    content: bytes
    expected: dict[str, float] | None


@dataclass
class Tally:
    """Responses, and memory of the server, by seconds since the start."""

    started: float
    kinds: Counter = field(default_factory=Counter)
    latencies: list[tuple[float, float]] = field(default_factory=list)  # of correct responses
    memory: list[tuple[float, float]] = field(default_factory=list)  # MB
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, kind: str, seconds: float) -> None:
        with self.lock:
            self.kinds[kind] += 1
            if kind == "correct":
                self.latencies.append((time.monotonic() - self.started, seconds))


def ask(http: httpx.Client, name: str, content: bytes) -> tuple[str, list | str | None]:
    """Upload one file and wait for the response: ("complete", data) or ("error", reason)."""
    sent = http.post("gradio_api/upload", files={"files": (name, content)})
    if sent.status_code != 200:
        return "rejected", str(sent.status_code)
    file = {"path": sent.json()[0], "orig_name": name, "meta": {"_type": "gradio.FileData"}}
    started = http.post("gradio_api/call/predict", json={"data": [file]})
    if started.status_code != 200:
        return "busy", str(started.status_code)
    events = http.get(f"gradio_api/call/predict/{started.json()['event_id']}").text
    event, _, data = events.strip().rpartition("event: ")[2].partition("\ndata: ")
    return event, json.loads(data)


def judge(event: str, data: list | str | None, expected: dict[str, float] | None) -> str:
    """`expected` are the scores by class, or None for a file that must be rejected."""
    text = json.dumps(data)
    if event == "busy" or (event == "error" and "queue" in text.lower()):
        return "busy"
    if event in ("error", "rejected"):
        if "Traceback" in text or "/tmp" in text:
            return "error that leaks internals"
        return "error" if expected is not None else "rejected"
    if expected is None:
        return "wrong"
    scores = {row["label"]: row["confidence"] for row in data[0]["confidences"]}
    same = scores.keys() == expected.keys() and np.allclose(
        list(scores.values()), list(expected.values()), atol=1e-4
    )
    return "correct" if same else "wrong"


def visit(
    url: str,
    photos: list[Sent],
    odd: list[Sent],
    is_running: Callable[[], bool],
    tally: Tally,
    seed: int,
) -> None:
    """One client: sends files until the time is over or the server has exited."""
    choose = random.Random(seed)
    with httpx.Client(base_url=url, timeout=120) as http:
        while is_running():
            sent = choose.choice(odd if choose.random() < 0.2 else photos)
            started = time.monotonic()
            try:
                kind = judge(*ask(http, sent.name, sent.content), sent.expected)
            except (httpx.HTTPError, ValueError, KeyError, TypeError, IndexError) as error:
                kind = type(error).__name__
            tally.add(kind, time.monotonic() - started)


def sample_memory(server: psutil.Process, is_running: Callable[[], bool], tally: Tally) -> None:
    while is_running():
        try:
            used = server.memory_info().rss / 1e6
        except psutil.Error:  # it has just exited
            return
        tally.memory.append((time.monotonic() - tally.started, used))
        time.sleep(1)


def find_expected(fruits: FruitClassifier, folder: Path, name: str, content: bytes) -> Sent:
    """A file with the scores of what the demo opens: upright, first frame only."""
    path = folder / name
    path.write_bytes(content)
    return Sent(name, content, dict(fruits.predict(open_upload(path, path.parent)).top))


def failures(tally: Tally, code: int) -> list[str]:
    """Failures as phrases; `code` is the exit code of the server."""
    found = [f"{count} {kind}" for kind, count in tally.kinds.items() if kind not in EXPECTED]
    if not tally.latencies:
        found.append("no correct response")
    if code:
        found.append(f"the server exited with code {code}")
    return found


def summarise(tally: Tally, clients: int, elapsed: float) -> str:
    """Counts by kind, latency, and memory as the median of the first and of the last minute."""
    counts = ", ".join(f"{count:,} {kind}" for kind, count in tally.kinds.most_common())
    lines = [f"{clients} clients, {elapsed:.0f} s: {counts or 'no requests'}"]
    if tally.latencies:
        seconds = [latency for _, latency in tally.latencies]
        p50, p95, p99 = np.quantile(seconds, [0.5, 0.95, 0.99])
        rate = len(seconds) / elapsed
        lines.append(
            f"correct responses: {p50:.2f} s (p50), {p95:.2f} s (p95), {p99:.2f} s (p99), "
            f"{rate:.1f} per second"
        )
    if tally.memory:
        last = tally.memory[-1][0]
        first = np.median([used for when, used in tally.memory if when <= 60])
        late = np.median([used for when, used in tally.memory if when >= last - 60])
        most = max(used for _, used in tally.memory)
        lines.append(
            f"memory: {first:.0f} MB in the first minute, {late:.0f} MB in the last, "
            f"{most:.0f} MB at most"
        )
    return "\n".join(lines)


def draw(tally: Tally, file: Path) -> None:
    """Plot memory and latency over time, one above the other."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    above.plot([when for when, _ in tally.memory], [used for _, used in tally.memory], "tab:orange")
    above.set_ylabel("server memory, MB")
    above.set_ylim(0, None)
    times, seconds = [row[0] for row in tally.latencies], [row[1] for row in tally.latencies]
    below.plot(times, seconds, ".", markersize=3, alpha=0.5)
    below.set_ylabel("latency, s")
    below.set_ylim(0, None)
    below.set_xlabel("seconds since the start")
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=110)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data_dir", type=Path, required=True, help="photos, in any folders")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--photos", type=int, default=60, help="number of different photos")
    parser.add_argument("--plot", type=Path, default=Path("load.png"))
    options = parser.parse_args()

    files = list_images(options.data_dir)
    files = random.Random(0).sample(files, min(options.photos, len(files)))
    fruits = FruitClassifier.from_pretrained(options.model)
    photos = [Sent(path.name, path.read_bytes(), dict(fruits.predict(path).top)) for path in files]
    odd = [Sent(name, make(), None) for name, (make, _) in REFUSED.items()]
    with tempfile.TemporaryDirectory() as folder:
        odd += [
            find_expected(fruits, Path(folder), name, make()) for name, make in ACCEPTED.items()
        ]
    del fruits

    command = [sys.executable, ROOT / "app.py", "--model", options.model]
    with serve_demo(command, output=subprocess.DEVNULL) as (url, server):
        tally = Tally(time.monotonic())
        until = tally.started + 60 * options.minutes

        def is_running() -> bool:
            return time.monotonic() < until and server.poll() is None

        threads = [
            threading.Thread(target=visit, args=(url, photos, odd, is_running, tally, seed))
            for seed in range(options.clients)
        ]
        process = psutil.Process(server.pid)
        threads.append(threading.Thread(target=sample_memory, args=(process, is_running, tally)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        elapsed = time.monotonic() - tally.started
        early = server.poll() is not None

    print(summarise(tally, options.clients, elapsed))
    draw(tally, options.plot)
    failed = failures(tally, server.returncode) + ["the server exited early"] * early
    print(f"failed: {', '.join(failed)}" if failed else "nothing failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
