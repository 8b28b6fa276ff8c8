"""The documentation as a site: ``make docs`` builds it from the Markdown that people read in the repository.

    README, docs/*.md, docs/reference/*.md, docs/design/*.md ──┬─► Sphinx ─► pages, search
    docstrings of the SDK ──────────────────────────────────────┘
    each page's own Markdown ─► beside its HTML; llms.txt names them all

The pages have no markup of the generator's, but for docs/site/sdk.md: the order of the site stands here. A link that
leads nowhere, and a page that is not in the order, end the build.
"""

import re
import shutil
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

project = "hatchet-operator"
author = "The hatchet-operator authors"
copyright = author  # noqa: A001  # the name that Sphinx reads
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
root_doc = "README"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "charts/*/README.md",
    "docs/*.md",
    "docs/design/*.md",
    "docs/reference/*.md",
    "docs/site/sdk.md",
    "benchmarks/README.md",
    "tests/e2e/README.md",
]
exclude_patterns = [".*", "build", "**/node_modules"]

ORDER = {
    "Start": ["docs/install", "docs/guide", "docs/first-cluster", "docs/moving-from-hatchet"],
    "How to": [
        "docs/kubectl",
        "docs/cli",
        "docs/slow",
        "docs/dashboard",
        "docs/logs",
        "docs/testing",
        "docs/triggers",
        "docs/concurrency",
        "docs/rate-limits",
        "docs/placing",
        "docs/replay",
        "docs/payloads",
        "docs/published-sdk",
    ],
    "Operate": [
        "charts/hatchet-operator/README",
        "charts/hatchet-operator-crds/README",
        "docs/gitops",
        "docs/autoscaling",
        "docs/metrics",
        "docs/traces",
        "docs/runbooks",
        "docs/scaling",
        "docs/upgrades",
        "docs/security",
    ],
    "Reference": [
        "docs/sdk",
        "docs/site/sdk",
        "docs/reference/resources",
        "docs/reference/commands",
        "docs/reference/settings",
        "docs/reference/reasons",
        "docs/limits",
    ],
    "Explanation": ["docs/comparison", "docs/performance", "docs/architecture", "docs/modules"],
    "The project": ["CONTRIBUTING", "CHANGELOG", "benchmarks/README", "tests/e2e/README", "docs/README"],
    "Why it is so": sorted(f"docs/design/{page.stem}" for page in (ROOT / "docs" / "design").glob("*.md")),
}
"""The pages of the site under their captions, each in the order in which it is read."""

_FOLDER = re.compile(r"\[([^\]]+)\]\((?!\w+:)[^)#]*/\)")
"""A link to a folder, which is a page where the repository is read and nowhere else."""

myst_heading_anchors = 4
myst_enable_extensions = ["linkify"]
myst_linkify_fuzzy_links = False
suppress_warnings = ["myst.header", "misc.highlighting_failure"]

html_theme = "furo"
html_title = project
html_show_sphinx = False
html_show_sourcelink = False
html_copy_source = False
autodoc_typehints = "description"
autodoc_member_order = "bysource"
autoclass_content = "both"


def _order(app: Any, page: str, source: list[str]) -> None:
    """Append the site's order to its first page."""
    if page == root_doc:
        for caption, pages in ORDER.items():
            source[0] += "\n\n```{toctree}\n:hidden:\n:caption: " + caption + "\n\n" + "\n".join(pages) + "\n```\n"


def _without_folders(app: Any, page: str, source: list[str]) -> None:
    source[0] = _FOLDER.sub(r"\1", source[0])


def _twins(app: Any, error: Exception | None) -> None:
    """Put each page's Markdown beside it, and name all of them in llms.txt."""
    if error is not None or app.builder.name != "html":
        return
    out = Path(app.outdir)
    shutil.copyfile(out / "README.html", out / "index.html")
    lines = [f"# {project}", ""]
    for caption, pages in {"": [root_doc], **ORDER}.items():
        lines += [f"## {caption}", ""] if caption else []
        for page in pages:
            source = ROOT / f"{page}.md"
            (out / page).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, out / f"{page}.md")
            lines.append(f"- [{_title(source)}]({page}.md)")
        lines.append("")
    (out / "llms.txt").write_text("\n".join(lines), encoding="utf-8")


def _title(source: Path) -> str:
    first = next(line for line in source.read_text(encoding="utf-8").splitlines() if line.startswith("# "))
    return first.removeprefix("# ").replace("`", "")


def setup(app: Any) -> None:
    app.connect("source-read", _order)
    app.connect("source-read", _without_folders)
    app.connect("build-finished", _twins)
