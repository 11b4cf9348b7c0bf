"""The documentation site: Markdown pages of the repository, tables of flags, docstrings.

The source folder is the repository itself, so that one relative link leads from page to page both
here and where the repository is browsed. Nothing is fetched, neither by the build nor by readers.
"""

import sys
from pathlib import Path

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(DOCS)]

import hffruits  # noqa: E402

project = "hffruits"
author = "The hffruits authors"
copyright = "The hffruits authors, Apache-2.0"
version = release = hffruits.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "flag_tables",
    "notebook_page",
    "public_names",
]
root_doc = "docs/index"
include_patterns = ["docs/**.md", "benchmarks/*.md", "CONTRIBUTING.md", "CHANGELOG.md"]
# folders without pages are not even looked through
exclude_patterns = [
    path.name
    for path in ROOT.iterdir()
    if path.is_dir() and path.name not in ("docs", "benchmarks")
]

# of other packages no inventories are fetched
nitpick_ignore_regex = [("py:.*", r"(?!hffruits\.).*")]
nitpicky = True

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 4

highlight_language = "text"  # of blocks that name none: outputs
smartquotes = False  # of --flags they make dashes
default_role = "code"  # a name in single backticks, as our docstrings have them
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # else attributes are described twice

html_theme = "furo"
html_title = f"hffruits {version}"
html_static_path = ["_static"]
html_extra_path = ["_extra"]
html_css_files = ["site.css"]
html_copy_source = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#a53f0c", "color-brand-content": "#a53f0c"},
    "dark_css_variables": {"color-brand-primary": "#ffa666", "color-brand-content": "#ffa666"},
}
