"""Shared infrastructure: errors, files, caches, hardware, distributed, Hub client, plots, HTML.

errors              how a command ends: `InputError` and its kin; optional outputs
results             `Result`: a folder that was written, and what came out
files               files written safely: aside, flushed, renamed
claims              a folder that one process at a time writes to
flags               parsers with one-line errors, and which flag is meant by a wrong one
help                the help that they print
counts              `1 photo`, `2 photos`
names, escaping     names compared as a reader sees them; user text made safe for what shows it
cache               the cache folder, and folders in it made once
launch              which of the processes launched together this is, before they join
distributed         processes of one run: gather, wait, start
durations           `1h30m` <-> seconds
dataloader_workers  DataLoader workers that outlive signals, and end with their process
hardware            devices that compute in bfloat16; memory that this process may take
imports             heavy modules, imported in less time
malloc              freed memory that stays for the next step
hub_client          requests to the Hub tried again, and its errors
progress            progress bars, in logs a line at a time
environment         versions and the git commit that a run was made with
plots, html         figures as PNG files; pages in one HTML file
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
