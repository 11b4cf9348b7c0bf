"""Fault injection in training: how runs end, resume, and what is lost.

    sudo python benchmarks/faults.py --output faults.json      # root: for a small disk, two hosts

Each fault is injected at random points of real runs (a tiny model on drawn fruit: a step takes
milliseconds, so there is time for many), which are then resumed with the same command. A row counts
how many passed: exit code, message, checkpoint resumed from, and final weights bit-identical to
those of an uninterrupted run. Prints the table of docs/reliability.md.
"""

import argparse
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from tqdm import tqdm
from transformers import TrainerCallback

from hffruits.cli.main import main as run_command
from hffruits.training.checkpointing import ASIDE, checkpoints, newest_whole, step_of
from hffruits.training.trainer import FruitTrainer

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from support import two_hosts
from support.drawing import FRUITS, draw_fruit

STEPS, SAVE_STEPS = 120, 5
NET = ["--model_name_or_path", "test_efficientnet", "--no_pretrained", "--image_size", "32",
       "--freeze", "none", "--batch_norm", "freeze", "--bf16", "false"]  # fmt: skip
RUN = [*NET, "--max_steps", str(STEPS), "--per_device_train_batch_size", "8", "--eval_strategy",
       "no", "--load_best_model_at_end", "false", "--save_strategy", "steps", "--save_steps",
       str(SAVE_STEPS), "--logging_steps", "1", "--resume_from_checkpoint", "auto"]  # fmt: skip


@dataclass
class Row:
    """One fault and its outcome."""

    fault: str
    outcome: str
    passed: int
    times: int
    lost: str


# ---- runs ----


class SlowdownCallback(TrainerCallback):
    """Slows steps down by some milliseconds, so that faults hit different ones."""

    def on_step_end(self, args, state, control, **kwargs):
        time.sleep(0.01)


def child(words: list[str], log: str, hook: Callable[[FruitTrainer], None] | None) -> None:
    """Run `hffruits train` in a child process, with its output in a file."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as at a terminal
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    start = FruitTrainer.__init__

    def started(self, *args, callbacks=(), **kwargs):
        start(self, *args, callbacks=[*callbacks, SlowdownCallback()], **kwargs)
        if hook:
            hook(self)

    FruitTrainer.__init__ = started
    sys.exit(run_command(["train", *words]))


class Runs:
    """Starts runs on the same photos, below one folder."""

    def __init__(self, folder: Path):
        self.folder, self.photos = folder, draw(folder / "photos")
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(
            ["hffruits.training.run", "hffruits.cli.output", "matplotlib"]
        )
        self.number = 0
        self.reference = self.finish(self.new())

    def new(self) -> Path:
        self.number += 1
        return self.folder / f"run-{self.number}"

    def start(self, run: Path, *more: str, hook=None, photos: Path | None = None):
        words = [str(photos or self.photos), "--output_dir", str(run), *RUN, *more]
        process = self.context.Process(target=child, args=(words, f"{run}.log", hook))
        process.start()
        return process

    def finish(self, run: Path, *more: str, **options) -> bytes | None:
        """Wait for a run to end; returns its weights if it succeeded."""
        process = self.start(run, *more, **options)
        process.join(180)
        weights = run / "model.safetensors"
        return weights.read_bytes() if process.exitcode == 0 and weights.is_file() else None

    def ends_identically(self, run: Path) -> bool:
        return self.finish(run) == self.reference

    def output(self, run: Path) -> str:
        return Path(f"{run}.log").read_text(errors="replace")


def draw(folder: Path) -> Path:
    for split, count in {"train": 16, "validation": 3, "test": 3}.items():
        for label, name in enumerate(list(FRUITS)[:4]):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                image = draw_fruit(name, seed=1000 * label + 100 * len(split) + number, size=48)
                image.save(folder / split / name / f"{number}.png")
    return folder


def saved_step(run: Path) -> int:
    """The step of the newest checkpoint that can be resumed from."""
    newest = newest_whole(run)
    return step_of(newest) if newest else 0


def wait_for_checkpoints(
    run: Path, count: int, is_alive: Callable[[], bool], *, within: float
) -> None:
    """Wait for so many checkpoints, and then for a random time of at most `within` seconds."""
    while len(checkpoints(run)) < count and is_alive():
        time.sleep(0.005)
    time.sleep(random.uniform(0, within))


# ---- faults ----


def killed(runs: Runs, times: int) -> Row:
    """kill -9 at a random moment after the start, also in the middle of saving."""
    run, kills, early, passed, ended, saving = runs.new(), 0, 0, 0, 0, 0
    bar = tqdm(total=times, desc="kill -9", leave=False)
    while kills < times:
        began, process = time.monotonic(), runs.start(run)
        until, aimed = began + random.uniform(0.2, 6), random.random() < 0.5
        while process.is_alive() and time.monotonic() < until:
            time.sleep(0.001)
        while process.is_alive() and aimed and not (run / ASIDE).exists():
            pass  # in every second case, while a checkpoint is being saved
        if process.is_alive():
            process.kill()
            process.join()
            there = checkpoints(run)
            if not there and not (run / ASIDE).exists():
                early += 1  # nothing could be lost
                continue
            kills += 1
            bar.update()
            saving += (run / ASIDE).exists()
            passed += not there or newest_whole(run) == there[-1]
        else:
            process.join()
            ended += 1
            assert process.exitcode == 0, runs.output(run)
            assert (run / "model.safetensors").read_bytes() == runs.reference
            run = runs.new()
    bar.close()
    identical = runs.ends_identically(run)
    outcome = (
        f"the newest checkpoint was complete, although {saving} hit a run during a save ({early} "
        f"more came before the first checkpoint); the same command resumed, and "
        f"{ended + identical} of {ended + 1} runs ended with the same weights"
    )
    return Row(f"`kill -9` at a random moment of {ended + 1} runs", outcome, passed, times,
               f"at most the steps since the last checkpoint (here {SAVE_STEPS})")  # fmt: skip


def signalled(runs: Runs, times: int, number: signal.Signals) -> Row:
    passed = 0
    for _ in tqdm(range(times), number.name, leave=False):
        run = runs.new()
        process = runs.start(run)
        wait_for_checkpoints(run, 1, process.is_alive, within=1)
        os.kill(process.pid, number)
        process.join(60)
        reported = f"ended by {number.name}: {newest_whole(run)} is saved" in runs.output(run)
        passed += process.exitcode == 128 + number and reported and runs.ends_identically(run)
    return Row(f"{number.name}", f"a checkpoint of that step, exit code {128 + number}; the same "
               "final weights", passed, times, "nothing")  # fmt: skip


def truncated(runs: Runs, times: int) -> Row:
    passed = 0
    for _ in tqdm(range(times), "truncated", leave=False):
        run = runs.new()
        process = runs.start(run)
        wait_for_checkpoints(run, 2, process.is_alive, within=0.5)
        process.kill()
        process.join()
        before, newest = checkpoints(run)[-2:]
        file = random.choice(sorted(path for path in newest.iterdir() if path.stat().st_size))
        os.truncate(file, random.randrange(file.stat().st_size))
        found = newest_whole(run) == before
        identical = runs.ends_identically(run)
        passed += found and identical and "it is skipped" in runs.output(run)
    return Row("newest checkpoint truncated in a random file", "reported, skipped, and the "
               "previous one used; the same final weights", passed, times,
               "the steps between the two")  # fmt: skip


def full_disk(runs: Runs, times: int) -> Row:
    passed = 0
    for _ in tqdm(range(times), "full disk", leave=False):
        run = runs.new()
        run.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o"]
        subprocess.run([*mount, f"size={random.randint(3000, 9000)}k", "full", run], check=True)
        process = runs.start(run, "--save_total_limit", "99")
        process.join(120)
        reported = process.exitcode == 2 and "the disk is full (" in runs.output(run)
        saved = saved_step(run) > 0 and not (run / ASIDE).exists()
        subprocess.run(["mount", "-o", "remount,size=999m", run], check=True)
        passed += (
            reported and saved and runs.finish(run, "--save_total_limit", "99") == runs.reference
        )
        subprocess.run(["umount", run], check=True)
    return Row("disk full", "one line, exit code 2, the last good checkpoint intact; with free "
               "space the same command resumed to the same weights", passed, times,
               f"the steps since that checkpoint (here {SAVE_STEPS})")  # fmt: skip


@dataclass(frozen=True)
class NanLoss:
    """Makes the loss of one step NaN, as an overflow or a bad photo may."""

    step: int

    def __call__(self, trainer: FruitTrainer) -> None:
        forward, step = trainer._forward, self.step

        def broken(model, inputs):
            outputs = forward(model, inputs)
            if trainer.state.global_step + 1 == step:
                outputs.logits = outputs.logits * float("nan")
            return outputs

        trainer._forward = broken


def nan_loss(runs: Runs, times: int) -> Row:
    passed = 0
    for _ in tqdm(range(times), "NaN", leave=False):
        run, step = runs.new(), random.randint(SAVE_STEPS + 1, STEPS)
        process = runs.start(run, hook=NanLoss(step))
        process.join(120)
        said = runs.output(run)
        reported = f"the loss is nan at step {step} (" in said and process.exitcode == 2
        found = json.loads((run / "diverged.json").read_text())
        named = found["step"] == step and len(found["photos"]) == 8
        intact = saved_step(run) == (step - 1) // SAVE_STEPS * SAVE_STEPS
        passed += reported and named and intact
    return Row("a NaN loss, at a random step", "stopped at that step, reporting its "
               "learning rate, gradient norm and photos; no checkpoint has the bad weights", passed,
               times, f"the steps since the last checkpoint (here {SAVE_STEPS})")  # fmt: skip


def nan_skipped(runs: Runs, times: int) -> Row:
    passed = 0
    for _ in tqdm(range(times), "NaN, skipped", leave=False):
        run, step = runs.new(), random.randint(1, STEPS)
        weights = runs.finish(run, "--max_skipped_steps", "1", hook=NanLoss(step))
        passed += weights is not None and f"at step {step} (" in runs.output(run)
    return Row("the same with `--max_skipped_steps 1`", "reported and skipped; training finished",
               passed, times, "that step")  # fmt: skip


def worker_killed(runs: Runs, times: int) -> Row:
    passed = 0
    for _ in tqdm(range(times), "worker", leave=False):
        run = runs.new()
        # persistent: killing a worker that has finished its epoch would have no effect
        workers = ["--dataloader_num_workers", "2", "--dataloader_persistent_workers", "true"]
        process = runs.start(run, *workers)
        wait_for_checkpoints(run, 1, process.is_alive, within=0.5)
        started = psutil.Process(process.pid).children(recursive=True)
        below = [one for one in started if one.ppid() != process.pid]  # not the fork server
        max(below or started, key=lambda worker: worker.memory_info().rss).kill()
        process.join(60)
        reported = "a DataLoader worker was killed" in runs.output(run)
        saved = saved_step(run) > 0
        passed += process.exitcode == 2 and reported and saved and runs.ends_identically(run)
    return Row("a DataLoader worker killed (as by the OOM killer)", "one line, exit code 2, the "
               "last checkpoint intact; the same command resumed to the same weights", passed,
               times, f"the steps since the last checkpoint (here {SAVE_STEPS})")  # fmt: skip


def killed_in_features(runs: Runs, times: int) -> Row:
    """kill -9 or SIGTERM while features are computed, with an empty cache each time."""
    features = Path(os.environ["HFFRUITS_CACHE"], "features")
    flags, passed, reused = ["--freeze", "stages:2", "--feature_cache_views", "400"], 0, 0
    reference = runs.finish(runs.new(), *flags)
    for number in tqdm(range(times), "features", leave=False):
        shutil.rmtree(features)
        run = runs.new()
        process = runs.start(run, *flags)
        while process.is_alive() and not list(features.glob(".*/sums.bin")):
            time.sleep(0.001)
        time.sleep(random.uniform(0, 2))
        process.terminate() if number % 2 else process.kill()
        process.join(60)
        ended = process.exitcode == (143 if number % 2 else -signal.SIGKILL)
        identical = runs.finish(run, *flags) == reference
        reused += bool(
            re.search(r"features of [1-9]\d* of \d+ images are cached", runs.output(run))
        )
        passed += ended and identical
    return Row("`kill -9`, or SIGTERM, while features are computed", "the same command computed "
               f"the missing ones ({reused} runs found some) and ended with the same weights",
               passed, times, "the images in progress")  # fmt: skip


def corrupt(runs: Runs, share: float, times: int) -> Row:
    passed = 0
    for _ in tqdm(range(times), f"{share:.0%} corrupt", leave=False):
        run = runs.new()
        photos = shutil.copytree(runs.photos, run.with_name(f"{run.name}-photos"))
        files = sorted(photos.rglob("*.png"))
        chosen = random.sample(files, round(share * len(files)))
        for file in chosen:
            os.truncate(file, random.randrange(file.stat().st_size * 9 // 10))
        process = runs.start(run, photos=photos)
        process.join(120)
        refused = process.exitcode == 2 and "max_unreadable_fraction" in runs.output(run)
        weights = runs.finish(runs.new(), "--max_unreadable_fraction", "0.3", photos=photos)
        metrics = json.loads((runs.folder / f"run-{runs.number}" / "metrics.json").read_text())
        listed = {file["path"] for file in metrics["data"]["skipped"]}
        reported = listed == {str(path.relative_to(photos)) for path in chosen}
        expected = refused if len(chosen) > 0.05 * len(files) else process.exitcode == 0
        passed += expected and weights is not None and reported
    action = "rejected in one line (over 5 %); with `--max_unreadable_fraction 0.3` trained" if (
        share > 0.05) else "trained"  # fmt: skip
    return Row(f"{share:.0%} of the photos truncated", f"{action}; each of them listed with the "
               "reason", passed, times, "those photos")  # fmt: skip


def lost_host(runs: Runs, times: int) -> Row:
    passed = 0
    for _ in tqdm(range(times), "lost host", leave=False):
        run = runs.new()
        words = [runs.photos, "--output_dir", run, *RUN, "--per_device_train_batch_size", "4"]
        with two_hosts.two_hosts() as (first, second):
            main = two_hosts.launch_on(first, first, 0, words, restarts=3)
            other = two_hosts.launch_on(second, first, 1, words, restarts=3)
            wait_for_checkpoints(run, 2, main.is_alive, within=2)
            second.kill()
            other.wait()
            other = two_hosts.launch_on(second, first, 1, words, restarts=3)
            said = main.output(timeout=240)
            other.wait(timeout=60)
        metrics = json.loads((run / "metrics.json").read_text())
        reference = json.loads((runs.folder / "run-1" / "metrics.json").read_text())
        same = all(
            metrics[s]["accuracy"] == reference[s]["accuracy"] for s in ("validation", "test")
        )
        passed += main.returncode == other.returncode == 0 and same and "resuming from" in said
    return Row("one of two hosts lost and restarted", "the other noticed at once and waited; "
               "both resumed from the last checkpoint, and reached the accuracy of one host",
               passed, times,
               f"the steps since the last checkpoint (here {SAVE_STEPS})")  # fmt: skip


def cut_link(runs: Runs, times: int) -> Row:
    passed, waited = 0, []
    for _ in tqdm(range(times), "cut link", leave=False):
        run = runs.new()
        words = [runs.photos, "--output_dir", run, *RUN, "--per_device_train_batch_size", "4"]
        with two_hosts.two_hosts() as (first, second):
            hosts = [
                two_hosts.launch_on(host, first, rank, [*words, "--ddp_timeout", "10"])
                for rank, host in enumerate((first, second))
            ]
            wait_for_checkpoints(run, 2, hosts[0].is_alive, within=2)
            first.unplug()
            began = time.monotonic()
            said = [host.output(timeout=120) for host in hosts]
            waited.append(time.monotonic() - began)
        reported = all("has not answered within ddp_timeout" in text for text in said)
        passed += reported and all(host.returncode for host in hosts) and saved_step(run) > 0
    return Row("the link between two hosts cut", f"both ended with one line, after at most "
               f"{max(waited):.0f} s with `--ddp_timeout 10`", passed, times,
               f"the steps since the last checkpoint (here {SAVE_STEPS})")  # fmt: skip


def format_table(rows: list[Row]) -> str:
    lines = ["| fault | outcome | passed | lost |", "|---|---|---|---|"]
    for row in rows:
        lines.append(f"| {row.fault} | {row.outcome} | {row.passed} of {row.times} | {row.lost} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="results, as JSON")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--times", type=int, default=10, help="repetitions of the other faults")
    parser.add_argument("--hosts", type=int, default=5, help="repetitions with two hosts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", help="run only these: kill, sigterm, nan, ...")
    args = parser.parse_args()
    random.seed(args.seed)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.environ["HFFRUITS_CACHE"] = f"{folder}/cache"
        runs = Runs(Path(folder))
        assert runs.reference, runs.output(Path(folder, "run-1"))
        faults: dict[str, Callable[[], Row]] = {
            "kill": lambda: killed(runs, args.kills),
            "sigterm": lambda: signalled(runs, args.times, signal.SIGTERM),
            "sigint": lambda: signalled(runs, args.times, signal.SIGINT),
            "truncated": lambda: truncated(runs, args.times),
            "nan": lambda: nan_loss(runs, args.times),
            "nan_skipped": lambda: nan_skipped(runs, args.times),
            "worker": lambda: worker_killed(runs, args.times),
            "features": lambda: killed_in_features(runs, args.times),
            "full_disk": lambda: full_disk(runs, args.times),
            "lost_host": lambda: lost_host(runs, args.hosts),
            "cut_link": lambda: cut_link(runs, args.hosts),
        } | {f"corrupt_{s:.0%}": lambda s=s: corrupt(runs, s, 2) for s in (0.01, 0.05, 0.1, 0.2)}
        skipped = {"full_disk": "mounting one needs root"} if os.geteuid() else {}
        if reason := two_hosts.missing_requirement():
            skipped |= {"lost_host": reason, "cut_link": reason}
        for name, reason in skipped.items():
            print(f"skipped: {name} ({reason})")
        rows = []
        for name in args.only or faults:
            if name in skipped:
                continue
            rows.append(faults[name]())
            print(f"{rows[-1].passed} of {rows[-1].times}  {rows[-1].fault}", flush=True)
            if args.output:
                args.output.write_text(json.dumps([vars(row) for row in rows], indent=2))
    print(format_table(rows))


if __name__ == "__main__":
    main()
