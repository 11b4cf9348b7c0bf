"""Docstrings as they are written here, and references to the public name of what is meant.

Annotations name classes where they are defined (`hffruits.data.arguments.DataArguments`), the site
where they are public (`hffruits.data.DataArguments`). Those that are public nowhere stay text.
"""

import pkgutil
import re
from importlib import import_module

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import NoUri

LISTED = re.compile(r"^(\S+(?:, \S+)*) {2,}(.+)$")  # in a package's docstring: a module and what


def resolve_public_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, text: nodes.TextElement
) -> nodes.reference | None:
    """A link to the public name of a reference that names the place of its definition."""
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py" or not target.startswith("hffruits."):
        return None
    _, package, *_, name = target.split(".") if target.count(".") > 1 else (None, "", "")
    domain = env.domains["py"]
    for place in ("hffruits", f"hffruits.{package}"):
        if name and name in import_module(place).__all__:
            public = f"{place}.{name}"
            found = domain.resolve_xref(env, node["refdoc"], app.builder, "obj", public, node, text)
            if found is not None:
                return found
    try:
        pkgutil.resolve_name(target)
    except (ImportError, AttributeError):
        return None  # which warns
    raise NoUri  # it is public nowhere


def list_modules(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """The modules in a package's docstring as a list, not as one run of text."""
    if what == "module":
        lines[:] = [LISTED.sub(r"- ``\1``: \2", line) for line in lines]


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("missing-reference", resolve_public_name)
    app.connect("autodoc-process-docstring", list_modules)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
