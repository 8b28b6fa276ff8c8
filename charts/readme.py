"""Write the table of values into the chart's README, from values.yaml and the comments in it.

A value's comment is what stands above it; each value is on one line, so that a line is a row.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHART = Path(__file__).parent / "hatchet-operator"
_BEGIN, _END = "<!-- values -->\n", "<!-- end of values -->\n"
_LINE = re.compile(r"(?P<indent> *)(?P<key>\w+):(?: (?P<default>.+))?")


@dataclass(frozen=True, kw_only=True)
class Value:
    """One row: ``image.tag``, its default as YAML, and its comment."""

    path: str
    default: str
    comment: str


def read_values(text: str) -> Iterator[Value]:
    """Parse values.yaml, or as much of YAML as it uses."""
    comment: list[str] = []
    sections: list[str] = []
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            comment.append(line.lstrip(" #"))
            continue
        if match := _LINE.fullmatch(line):
            del sections[len(match["indent"]) // 2 :]
            path = ".".join([*sections, match["key"]])
            if match["default"] is None:
                sections.append(match["key"])
            else:
                yield Value(path=path, default=match["default"], comment=" ".join(comment))
        comment.clear()


def render_table(values: Iterator[Value]) -> str:
    rows = (f"| `{value.path}` | `{value.default}` | {value.comment} |\n" for value in values)
    return "| Value | Default | Meaning |\n|---|---|---|\n" + "".join(rows)


def render_readme(readme: str, values: str) -> str:
    """Return the README with its table written again."""
    before, rest = readme.split(_BEGIN)
    _, after = rest.split(_END)
    return f"{before}{_BEGIN}{render_table(read_values(values))}{_END}{after}"


if __name__ == "__main__":
    readme = CHART / "README.md"
    readme.write_text(render_readme(readme.read_text(), (CHART / "values.yaml").read_text()))
