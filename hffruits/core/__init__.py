"""What every package uses, and what knows nothing of fruit.

errors              how a command ends: `InputError` and its kin, optional outputs
names, escaping     names compared as a reader sees them; user text made safe for what shows it
cache               folders made once and kept
distributed         processes of one run: gather, wait, start
hardware            devices that compute in bfloat16; memory that this process may take
malloc              freed memory kept for the next step
dataloader_workers  DataLoader workers that outlive signals, and end with their process
hub_client          models fetched from the Hub, and its errors
environment         versions and the git commit that a run was made with
plots, html         figures as PNG files; pages in one HTML file
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
