"""One run on one process, on two, and on two hosts: accuracy and time, with the same batches.

    sudo python benchmarks/processes.py --data_dir produce      # root: for the two hosts

The two hosts are network namespaces on this machine, joined by a virtual cable, so they share its
cores: this is about the same result, not about speed.
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


def run_alone(words: list[str]) -> None:
    launch(words, processes=1)


def run_two(words: list[str]) -> None:
    launch(words, processes=2)


def launch(words: list[str], *, processes: int) -> None:
    """`torchrun` on this machine."""
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
        said = [process.output() for process in started]
        assert not any(process.returncode for process in started), said


WAYS: dict[str, Callable[[list[str]], None]] = {
    "one process": run_alone,
    "two processes": run_two,
    "two hosts": run_hosts,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--recipe", default="fast")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43])
    parser.add_argument("--on", nargs="+", choices=WAYS, default=list(WAYS), help="all by default")
    parser.add_argument("--output", type=Path, help="figures, as JSON")
    args = parser.parse_args()
    if "two hosts" in args.on and (reason := two_hosts.cannot()):
        print(f"left out: two hosts ({reason})")
        args.on.remove("two hosts")
    figures = []
    print("| on | seed | steps | validation top-1 | test top-1 | 95 % | whole run |")
    print("|---|---|---|---|---|---|---|")
    for seed, way in product(args.seeds, args.on):
        words = ["--recipe", args.recipe, "--seed", str(seed)]
        with tempfile.TemporaryDirectory() as folder:
            os.environ["HFFRUITS_CACHE"] = f"{folder}/cache"
            WAYS[way]([args.data_dir, *words, "--output_dir", f"{folder}/run"])
            metrics = json.loads(Path(folder, "run", "metrics.json").read_text())
        figures.append(metrics | {"on": way, "seed": seed})
        if args.output:
            args.output.write_text(json.dumps(figures, indent=2))
        training, test = metrics["training"], metrics["test"]
        low, high = test["intervals"]["accuracy"]
        print(
            f"| {way} | {seed} | {training['steps']} | {metrics['validation']['accuracy']:.1%} | "
            f"{test['accuracy']:.1%} | {low:.1%} to {high:.1%} | {training['seconds']:.0f} s |",
            flush=True,
        )


if __name__ == "__main__":
    main()
