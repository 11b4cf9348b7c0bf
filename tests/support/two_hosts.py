"""Two hosts on one machine: Linux network namespaces joined by a virtual link. Needs root and `ip`.

They reach each other only through that link, and see the same files. Each has its own cores, if
there are two.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from support.warm import WARM_SCRIPT, warm_environment

ROOT = Path(__file__).parents[2]
PORT = 29_500


class Started(subprocess.Popen):
    """A command on a host. Its output goes to a file: an unread pipe would block it."""

    def __init__(self, words: list[str], **options):
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115, it lives as long as we do
        super().__init__(words, stdout=self._output, stderr=subprocess.STDOUT, **options)

    def is_alive(self) -> bool:
        """Whether it is running; named as in multiprocessing."""
        return self.poll() is None

    def output(self, timeout: float | None = None) -> str:
        """All of its output, once it has ended."""
        self.wait(timeout)
        self._output.seek(0)
        return self._output.read()


@dataclass(frozen=True)
class Host:
    """One of the two."""

    name: str  # of its namespace
    address: str
    link: str  # its end of the virtual link
    cores: frozenset[int]  # of this machine, which no other host uses

    def start(self, words: Iterable[str | Path]) -> Started:
        """Start a command there; PyTorch gets the address, as both hosts have the same name."""
        own = {"PET_LOCAL_ADDR": self.address, "GLOO_SOCKET_IFNAME": self.link}
        started = Started(
            ["ip", "netns", "exec", self.name, *map(str, words)],
            env=os.environ | own | {"OMP_NUM_THREADS": "1"} | warm_environment(),
        )
        os.sched_setaffinity(started.pid, self.cores)
        return started

    def start_without(self, folder: Path, words: Iterable[str | Path]) -> Started:
        """Start a command that sees `folder` as empty, without what others write there."""
        hide = 'mount -t tmpfs none "$0" && exec "$@"'  # `ip netns exec` has mounts of its own
        return self.start(["sh", "-c", hide, folder, *words])

    def kill(self) -> None:
        """Kill all processes there, as a power failure does."""
        pids = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True)
        for pid in pids.stdout.split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)

    def unplug(self) -> None:
        """Cut the link: nothing arrives any more, without an error."""
        _ip("-n", self.name, "link", "set", self.link, "down")


def missing_requirement() -> str | None:
    """Why this machine can't emulate two hosts; None if it can."""
    if not shutil.which("ip"):
        return "two hosts need Linux's `ip`"
    if os.geteuid() != 0:
        return "two hosts need root"
    name = f"hff-{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode:
        return "network namespaces are not allowed here"
    _ip("netns", "del", name)
    return None


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Two connected hosts, removed afterwards."""
    number, cores = os.getpid(), sorted(os.sched_getaffinity(0))
    shares = (cores[::2], cores[1::2] or cores)
    first, second = hosts = tuple(
        Host(f"hff-{number}-{letter}", f"10.77.0.{index}", f"v{number}{letter}", frozenset(share))
        for index, (letter, share) in enumerate(zip("ab", shares, strict=True), 1)
    )
    try:
        for host in hosts:
            _ip("netns", "add", host.name)
        _ip("link", "add", first.link, "type", "veth", "peer", "name", second.link)
        for host in hosts:
            _ip("link", "set", host.link, "netns", host.name)
            _ip("-n", host.name, "addr", "add", f"{host.address}/24", "dev", host.link)
            for device in ("lo", host.link):
                _ip("-n", host.name, "link", "set", device, "up")
        yield hosts
    finally:
        for host in hosts:
            host.kill()
            subprocess.run(["ip", "netns", "del", host.name], capture_output=True)


def launch_on(
    host: Host,
    main: Host,
    rank: int,
    arguments: Iterable[str | Path],
    *,
    restarts: int = 0,
    without: Path | None = None,
) -> Started:
    """`accelerate launch` on one of two hosts, configured by scripts/accelerate/nodes.yaml."""
    launcher = [Path(sys.executable).with_name("accelerate"), "launch"]
    config = ["--config_file", ROOT / "scripts" / "accelerate" / "nodes.yaml"]
    sizes = ["--num_machines", "2", "--num_processes", "2", "--machine_rank", str(rank)]
    where = ["--main_process_ip", main.address, "--main_process_port", str(PORT)]
    again = ["--max_restarts", str(restarts), "--monitor_interval", "1"]
    script = [WARM_SCRIPT, ROOT / "scripts" / "train.py"]
    words = [*launcher, *config, *sizes, *where, *again, *script, *arguments]
    return host.start_without(without, words) if without else host.start(words)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)
