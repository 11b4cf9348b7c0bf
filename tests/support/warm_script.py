"""Script for launchers: `warm_script.py SCRIPT ARGUMENTS` is `SCRIPT ARGUMENTS`, already imported.

It is where this one was launched: on its host, with its environment and its signals. WARM names the
folder of the process to fork from.
"""

import os
import signal
import sys
from pathlib import Path

from support import warm

warm.find_server = lambda: Path(os.environ["WARM"])
process = warm.Warm(sys.argv[1:], output=1, error=2, place_of=os.getpid())
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, frame: process.send_signal(number))
code = process.wait(timeout=600)
if code < 0:  # as it ended
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
