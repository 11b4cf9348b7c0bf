"""What an epoch over many photos takes on many GPUs: time, storage, cores, network, money.

    python benchmarks/estimate.py --images 10_000_000 --gpu_rate 1000

Arithmetic on rates of one device, which are to be measured on yours: `gpu_rate` and `core_rate` by
throughput.py and profiling.py. It assumes that devices don't wait for each other but for `waiting`.
"""

import argparse
from dataclasses import dataclass


@dataclass(frozen=True)
class Rates:
    """Of one device, and of one photo."""

    gpu: float  # photos a second that one GPU trains on
    core: float  # photos a second that one core reads, decodes and augments
    kilobytes: float  # of a photo's file
    parameters: float  # millions that learn
    batch: int  # photos a step on each GPU
    waiting: float  # share of the time that several GPUs spend on each other
    price: float  # of a GPU for an hour


def estimate(images: int, gpus: int, rates: Rates) -> dict[str, float]:
    """What one epoch takes. The gradients are float32, averaged by a ring of all GPUs."""
    each = rates.gpu * (1 - rates.waiting if gpus > 1 else 1)
    photos = gpus * each
    seconds = images / photos
    sent = 2 * (gpus - 1) / gpus * rates.parameters * 4  # MB a step, and as many received
    return {
        "gpus": gpus,
        "photos_per_second": photos,
        "seconds": seconds,
        "storage_mb_per_second": photos * rates.kilobytes / 1000,
        "cores_per_gpu": each / rates.core,
        "network_gbit_per_second": sent * 8 / 1000 * each / rates.batch,
        "cost": gpus * seconds / 3600 * rates.price,
    }


def in_words(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:,.0f} min"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000_000)
    parser.add_argument("--gpus", type=int, nargs="+", default=[8, 16, 32, 64, 128, 256])
    parser.add_argument("--gpu_rate", type=float, default=1000, help="photos/s of one GPU")
    parser.add_argument("--core_rate", type=float, default=500, help="photos/s of one core")
    parser.add_argument("--kilobytes", type=float, default=100, help="of a photo")
    parser.add_argument("--parameters", type=float, default=28.6, help="millions that learn")
    parser.add_argument("--batch", type=int, default=64, help="photos a step on each GPU")
    parser.add_argument("--waiting", type=float, default=0.1, help="share lost to each other")
    parser.add_argument("--price", type=float, default=2.5, help="of a GPU for an hour")
    args = parser.parse_args()
    rates = Rates(
        args.gpu_rate, args.core_rate, args.kilobytes, args.parameters, args.batch,
        args.waiting, args.price,
    )  # fmt: skip
    print("| GPUs | photos/s | an epoch | from storage | cores a GPU | network a GPU | an epoch's "
          "cost |\n|---|---|---|---|---|---|---|")  # fmt: skip
    for gpus in args.gpus:
        row = estimate(args.images, gpus, rates)
        print(
            f"| {gpus} | {row['photos_per_second']:,.0f} | {in_words(row['seconds'])} | "
            f"{row['storage_mb_per_second'] / 1000:.2g} GB/s | {row['cores_per_gpu']:.1f} | "
            f"{row['network_gbit_per_second']:.1f} Gbit/s | {row['cost']:,.0f} |"
        )


if __name__ == "__main__":
    main()
