"""Writes the tables of benchmarks/README.md from benchmarks/results/*.csv.

    python benchmarks/render.py                                  # all tables
    python benchmarks/tta.py ... | python benchmarks/render.py tta  # the table printed there, first

In the page a table stands between `<!-- results/NAME.csv -->` and `<!-- end -->`. A script's output
may hold more than one table; the last one is taken.
"""

import argparse
import csv
import re
import sys
from pathlib import Path

PAGE = Path(__file__).with_name("README.md")
MARKED = re.compile(r"(<!-- results/([\w-]+\.csv) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", help="save the Markdown table on stdin under this name")
    name = parser.parse_args().name
    if name:
        rows = read_table(sys.stdin.read())
        with (PAGE.parent / "results" / f"{name}.csv").open("w", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def render(page: str) -> str:
    """The page with each marked table as its CSV file has it."""
    return MARKED.sub(lambda marked: marked[1] + format_table(marked[2]) + marked[3], page)


def format_table(name: str) -> str:
    with (PAGE.parent / "results" / name).open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, ["---"] * len(head), *rows))


def read_table(markdown: str) -> list[list[str]]:
    """The rows of the last table of a text, its head first."""
    tables = re.findall(r"(?:^\|.*\|\n?)+", markdown, re.MULTILINE)
    if not tables:
        sys.exit("no Markdown table on stdin")
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in tables[-1].splitlines()]
    return [row for row in rows if not all(re.fullmatch(":?-+:?", cell) for cell in row)]


if __name__ == "__main__":
    main()
