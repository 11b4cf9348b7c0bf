"""What `accelerate launch` and `torchrun` tell a process in its environment. Imports nothing heavy.

Whatever has joined the other processes asks `PartialState` instead.
"""

import os


def rank() -> int:
    """Which of the processes that were launched together this is; 0 for the only one."""
    return int(os.environ.get("RANK", 0))


def is_main_process() -> bool:
    """Whether this is the first of them, which writes and prints."""
    return rank() == 0


def launched_processes() -> int:
    """How many they are, on all machines."""
    return int(os.environ.get("WORLD_SIZE", 1))
