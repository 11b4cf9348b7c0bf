"""Distributed training: one process, two, and two hosts with the same batches; accuracy and time.

    sudo python benchmarks/distributed.py --data_dir produce      # root: for the two hosts

The two hosts are network namespaces on this machine, joined by a virtual link, so they share its
cores: this compares results, not speed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import product
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from support import two_hosts

ROOT = Path(__file__).parents[1]
BATCH = 32


def run_one(words: list[str]) -> None:
    launch(words, processes=1)


def run_two(words: list[str]) -> None:
    launch(words, processes=2)


def launch(words: list[str], *, processes: int) -> None:
    """Run `torchrun` on this machine."""
    launcher = [Path(sys.executable).with_name("torchrun"), "--standalone"]
    batch = ["--per_device_train_batch_size", str(BATCH // processes)]
    subprocess.run(
        [*launcher, f"--nproc_per_node={processes}", ROOT / "scripts" / "train.py", *words, *batch],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def run_hosts(words: list[str]) -> None:
    batch = ["--per_device_train_batch_size", str(BATCH // 2)]
    with two_hosts.two_hosts() as (first, second):
        started = [
            two_hosts.launch_on(host, first, rank, [*words, *batch])
            for rank, host in enumerate((first, second))
        ]
        outputs = [process.output() for process in started]
        assert not any(process.returncode for process in started), outputs


SETUPS: dict[str, Callable[[list[str]], None]] = {
    "one process": run_one,
    "two processes": run_two,
    "two hosts": run_hosts,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--recipe", default="fast")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43])
    parser.add_argument(
        "--on", nargs="+", choices=SETUPS, default=list(SETUPS), help="default: all"
    )
    parser.add_argument("--output", type=Path, help="results, as JSON")
    args = parser.parse_args()
    if "two hosts" in args.on and (reason := two_hosts.missing_requirement()):
        print(f"skipped: two hosts ({reason})")
        args.on.remove("two hosts")
    results = []
    print("| on | seed | steps | validation top-1 | test top-1 | 95 % | whole run |")
    print("|---|---|---|---|---|---|---|")
    for seed, setup in product(args.seeds, args.on):
        words = ["--recipe", args.recipe, "--seed", str(seed)]
        with tempfile.TemporaryDirectory() as folder:
            os.environ["HFFRUITS_CACHE"] = f"{folder}/cache"
            SETUPS[setup]([args.data_dir, *words, "--output_dir", f"{folder}/run"])
            metrics = json.loads(Path(folder, "run", "metrics.json").read_text())
        results.append(metrics | {"on": setup, "seed": seed})
        if args.output:
            args.output.write_text(json.dumps(results, indent=2))
        training, test = metrics["training"], metrics["test"]
        low, high = test["intervals"]["accuracy"]
        print(
            f"| {setup} | {seed} | {training['steps']} | {metrics['validation']['accuracy']:.1%} | "
            f"{test['accuracy']:.1%} | {low:.1%} to {high:.1%} | {training['seconds']:.0f} s |",
            flush=True,
        )


if __name__ == "__main__":
    main()
