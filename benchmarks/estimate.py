"""Estimate of an epoch on many GPUs: time, storage, cores, network, cost.

    python benchmarks/estimate.py --images 10_000_000 --gpu_rate 1000

Arithmetic on the rates of one device, to be measured on yours: `gpu_rate` and `core_rate` with
throughput.py and profiling.py. Devices wait for each other only for the share `waiting`.
"""

import argparse
from dataclasses import dataclass


@dataclass(frozen=True)
class Rates:
    """Rates and costs of one device and one photo."""

    gpu: float  # photos/s in training on one GPU
    core: float  # photos/s read, decoded and augmented on one core
    kilobytes: float  # per photo file
    parameters: float  # trainable, in millions
    batch: int  # photos per step and GPU
    waiting: float  # fraction of the time that GPUs wait for each other
    price: float  # per GPU hour


def estimate(images: int, gpus: int, rates: Rates) -> dict[str, float]:
    """Estimate one epoch, with float32 gradients and a ring all-reduce over all GPUs."""
    each = rates.gpu * (1 - rates.waiting if gpus > 1 else 1)
    photos = gpus * each
    seconds = images / photos
    sent = 2 * (gpus - 1) / gpus * rates.parameters * 4  # MB per step, and as many received
    return {
        "gpus": gpus,
        "photos_per_second": photos,
        "seconds": seconds,
        "storage_mb_per_second": photos * rates.kilobytes / 1000,
        "cores_per_gpu": each / rates.core,
        "network_gbit_per_second": sent * 8 / 1000 * each / rates.batch,
        "cost": gpus * seconds / 3600 * rates.price,
    }


def format_seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:,.0f} min"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000_000)
    parser.add_argument("--gpus", type=int, nargs="+", default=[8, 16, 32, 64, 128, 256])
    parser.add_argument("--gpu_rate", type=float, default=1000, help="photos/s of one GPU")
    parser.add_argument("--core_rate", type=float, default=500, help="photos/s of one core")
    parser.add_argument("--kilobytes", type=float, default=100, help="per photo")
    parser.add_argument("--parameters", type=float, default=28.6, help="trainable, in millions")
    parser.add_argument("--batch", type=int, default=64, help="photos per step and GPU")
    parser.add_argument("--waiting", type=float, default=0.1, help="fraction lost to waiting")
    parser.add_argument("--price", type=float, default=2.5, help="per GPU hour")
    args = parser.parse_args()
    rates = Rates(
        args.gpu_rate, args.core_rate, args.kilobytes, args.parameters, args.batch,
        args.waiting, args.price,
    )  # fmt: skip
    print("| GPUs | photos/s | one epoch | read from storage | cores per GPU | network per GPU "
          "| cost of an epoch |\n|---|---|---|---|---|---|---|")  # fmt: skip
    for gpus in args.gpus:
        row = estimate(args.images, gpus, rates)
        print(
            f"| {gpus} | {row['photos_per_second']:,.0f} | {format_seconds(row['seconds'])} | "
            f"{row['storage_mb_per_second'] / 1000:.2g} GB/s | {row['cores_per_gpu']:.1f} | "
            f"{row['network_gbit_per_second']:.1f} Gbit/s | {row['cost']:,.0f} |"
        )


if __name__ == "__main__":
    main()
