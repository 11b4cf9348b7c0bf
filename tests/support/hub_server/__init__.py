"""A small Hub on this machine: `huggingface_hub`, `transformers` and `datasets` push to it and load
from it, unmodified, over real HTTP.

    with serve_hub({("dataset", "user/fruits"): Repo({"data.csv": b"..."})}) as hub:
        api = HfApi(endpoint=hub.url, token=TOKEN)
        hub.faults.append(Fault("/commit/", status=500))
        subprocess.run(command, env=hub.environment(tmp_path / "home"))
        assert ("POST", "/api/models/user/kiwi/commit/main", 200) in hub.requests

Models, datasets and Spaces, with their history, are held in memory. Large files come by LFS, in one
piece or in parts; Xet is not served, so clients need HF_HUB_DISABLE_XET=1, which `environment`
sets. Left out: pull requests, lists of repositories, organizations, copies between repositories,
anything that runs (Spaces, inference).

TOKEN writes as "user", READ_TOKEN only reads as "user", OTHER_TOKEN writes as "other".
"""

from support.hub_server.faults import Fault
from support.hub_server.repos import Account, Commit, File, Repo
from support.hub_server.server import OTHER_TOKEN, READ_TOKEN, TOKEN, Hub, serve_hub

__all__ = [
    "OTHER_TOKEN",
    "READ_TOKEN",
    "TOKEN",
    "Account",
    "Commit",
    "Fault",
    "File",
    "Hub",
    "Repo",
    "serve_hub",
]
