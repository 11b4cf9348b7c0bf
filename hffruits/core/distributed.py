"""Processes of one run: gathering values, doing something once, sharing the cores."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.data_loader import prepare_data_loader
from accelerate.utils import broadcast_object_list, gather_object
from joblib import cpu_count
from torch.utils.data import DataLoader

from hffruits.core.errors import InputError, PeersLostError
from hffruits.core.launch import rank

T = TypeVar("T")
LOOK_EVERY = 5  # steps, where several processes have to agree on ending
# in plain RuntimeErrors of CPU processes; NCCL's have a class of their own
_OF_GLOO = ("gloo/transport", "pair closure", "Timed out waiting", "Connection closed by peer")


@contextmanager
def translate_peer_errors() -> Iterator[None]:
    """Within it, a connection to another process that broke or timed out is `PeersLostError`."""
    try:
        yield
    except RuntimeError as error:
        words = str(error)
        if not isinstance(error, dist.DistError) and not any(part in words for part in _OF_GLOO):
            raise
        reason = " ".join(words.rsplit("] ", 1)[-1].split()).split(". ")[0]
        raise PeersLostError(
            f"process {rank()}: another process of this run has ended, or its "
            f"machine has not answered within ddp_timeout ({reason}). The same command with "
            "resume_from_checkpoint resumes it."
        ) from error


@translate_peer_errors()
def join_processes(timeout: float | None = None, *, cpu: bool = False) -> PartialState:
    """This process among those that were launched; on machines without a GPU, too.

    `timeout` is for how many seconds one that is silent is waited for. The first call counts.
    """
    options = {"timeout": timedelta(seconds=timeout)} if timeout else {}
    return PartialState(cpu=cpu or not may_use_gpu(), **options)


def may_use_gpu() -> bool:
    """Whether there is a GPU, and `accelerate launch` was not given `--cpu`."""
    forced = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    return torch.accelerator.is_available() and not forced


def may_use_cuda() -> bool:
    """Whether that GPU is NVIDIA's, or AMD's: for others, as Apple's, memory isn't pinned."""
    return may_use_gpu() and torch.accelerator.current_accelerator().type == "cuda"


def on_main_process(action: Callable[[], T]) -> T:
    """Do it once, on the main process, and give every process its result, or its error.

    What a file system raises is shared too: the others would wait for a result that never comes.
    """
    outcome: list[Any] = [None, None]
    if PartialState().is_main_process:
        try:
            outcome[0] = action()
        except (InputError, OSError) as error:
            outcome[1] = error
    if PartialState().num_processes > 1:
        broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


def on_each_machine(action: Callable[[], object]) -> None:
    """Do it once on each machine; all wait for it, and an error is every process's."""
    error = None
    if PartialState().is_local_main_process:
        try:
            action()
        except (InputError, OSError) as caught:
            error = caught
    errors = [error for error in gather(error) if error is not None]
    if errors:
        raise errors[0]


def any_process(holds: bool) -> bool:
    """Whether it holds for any of the processes; the same answer for all of them."""
    state = PartialState()
    if state.num_processes == 1:
        return holds
    flag = torch.tensor(float(holds), device=state.device)
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag)


def gather(value: T) -> list[T]:
    """The value of each process, by rank; the same list for all of them."""
    return gather_object([value]) if PartialState().num_processes > 1 else [value]


def use_own_cores(device: torch.device) -> None:
    """Compute on all cores that are this process's, where a launcher left it one."""
    if device.type == "cpu" and was_launched() and os.environ.get("OMP_NUM_THREADS") == "1":
        torch.set_num_threads(cores_per_process())


def keep_undivided(
    loader: DataLoader, *, device: torch.device | None = None, non_blocking: bool = False
) -> DataLoader:
    """Wrap a loader that has this process's part already, so that accelerate won't divide it."""
    return prepare_data_loader(
        loader,
        device=device,
        num_processes=1,
        process_index=0,
        put_on_device=True,
        dispatch_batches=False,
        non_blocking=non_blocking,
    )


def was_launched() -> bool:
    """Whether `accelerate launch` or `torchrun` has started this process."""
    return bool({"ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID"} & os.environ.keys())


def cores_per_process() -> int:
    """This process's share of the cores that the machine, or its container, lets us use."""
    return max(1, cpu_count() // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
