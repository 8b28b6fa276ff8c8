"""Every module in one line, out of the modules themselves: ``python -m docs.modules`` writes docs/modules.md."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = (
    ROOT / "operator" / "hatchet_operator",
    ROOT / "cli" / "hatchet_cli",
    ROOT / "dev" / "hatchet_operator_dev",
    ROOT / "sdk" / "hatchet_sdk",
)
PAGE = ROOT / "docs" / "modules.md"
_HEAD = """# Every module

What each module is for, in its own first sentence. How they work together: [architecture.md](architecture.md).
This page is written by `make generate`.
"""


def modules(package: Path) -> Iterator[Path]:
    """Yield the sources of a package, each folder's own before those below it; generated ones are left out."""
    sources = [path for path in package.glob("*.py") if not path.stem.endswith(("_pb2", "_pb2_grpc"))]
    yield from sorted(sources, key=lambda path: (path.stem != "__init__", path.stem))
    for folder in sorted(package.iterdir()):
        if folder.is_dir() and any(folder.glob("*.py")):
            yield from modules(folder)


def summary(source: Path) -> str:
    """Return the first paragraph of a module's docstring, on one line; "" if it has none."""
    docstring = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.split("\n\n")[0].split()).replace("``", "`")


def page() -> str:
    lines = [_HEAD]
    for package in PACKAGES:
        folder = None
        for source in modules(package):
            if source.parent != folder:
                folder = source.parent
                lines += ["", f"## `{folder.relative_to(package.parent)}/`", ""]
                lines += [summary(folder / "__init__.py"), "", "| | |", "|---|---|"]
            if source.stem != "__init__":
                lines.append(f"| `{source.name}` | {summary(source).replace('|', chr(92) + '|')} |")
    text = "\n".join(lines)
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    return text + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
