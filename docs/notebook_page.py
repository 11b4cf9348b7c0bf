"""Sphinx directive `{notebook} FILE`: a notebook's cells and the outputs that are saved in it."""

from pathlib import Path

import nbformat
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class Notebook(SphinxDirective):
    """The file's path starts at the page's folder."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        file = Path(self.env.doc2path(self.env.docname)).parent / self.arguments[0]
        self.env.note_dependency(str(file))
        return self.parse_text_to_nodes(as_markdown(file), allow_section_headings=True)


def as_markdown(file: Path) -> str:
    """A notebook as one Markdown text, so that its cells are in the sections above them."""
    parts = []
    for cell in nbformat.read(file, as_version=4).cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
        else:
            parts += [f"```python\n{cell.source}\n```", *map(show_output, cell.outputs)]
    return "\n\n".join(parts)


def show_output(output: nbformat.NotebookNode) -> str:
    """What a cell printed or returned: an image if it has one, else text."""
    data = output.get("data", {})
    for kind in ("image/png", "image/jpeg"):
        if kind in data:
            source = f"data:{kind};base64,{''.join(data[kind].split())}"
            return f'<p><img alt="what the cell shows" src="{source}"></p>'
    text = output["text"] if "text" in output else data["text/plain"]
    return f"```text\n{text.rstrip()}\n```"


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("notebook", Notebook)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
