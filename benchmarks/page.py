"""Draws the tables and pictures of docs/performance.md from the JSON: ``python -m benchmarks.page``.

A test holds the page to the JSON: tables word by word, pictures by the digest of what they show, since how a line is
drawn differs between versions of the library. matplotlib, since it is kept well, has types, and draws SVG whose text
stays text.
"""

import hashlib
import json
import re
import statistics
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from benchmarks.results import PATH, Measured, Results, Sample, figures, load, medians
from benchmarks.scenario import Scenario
from benchmarks.scenarios import SCENARIOS

PAGE = PATH.with_suffix(".md")
PICTURES = PATH.parent / "pictures"
_BEGIN, _END = "<!-- measured: begin -->", "<!-- measured: end -->"
_COMPONENTS = {"operator": "#4c72b0", "standby": "#a3b7d8", "worker": "#55a868", "etcd": "#ccb974"}
_COMPONENTS |= {"kube-apiserver": "#c44e52", "apiserver": "#c44e52", "client": "#8c8c8c", "dev": "#8172b3"}
_COMPONENTS |= {"local node": "#64b5cd"}
_SHOWN_REQUESTS = 0.01

Of = Callable[[Sample], float | None]
Row = list[str]


def write(results: Results) -> None:
    """Write tables and pictures."""
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(with_tables(text, results), encoding="utf-8")
    PICTURES.mkdir(exist_ok=True)
    for name, picture in pictures(results).items():
        picture.draw(PICTURES / f"{name}.svg")


def with_tables(page: str, results: Results) -> str:
    """Return the page with its tables made again, between the marks."""
    before, rest = page.split(_BEGIN)
    _, after = rest.split(_END)
    return f"{before}{_BEGIN}\n{tables(results)}\n{_END}{after}"


def tables(results: Results) -> str:
    """Return all tables of what was measured, each scenario in the order of `SCENARIOS`."""
    measured = list(_measured(results))
    parts = [
        "![rates](pictures/rates.svg)",
        _table(
            [
                "",
                "n",
                "a second",
                "raw pairs/s",
                "**ratio**",
                "cores, of others",
                "writes",
                "API server, KiB",
                "etcd, KiB",
                "gRPC",
            ],
            [_rate_row(*each) for each in measured],
        ),
        "![CPU](pictures/cpu.svg)",
        _table(["CPU, ms", *_components(measured)], [_cpu_row(*each, _components(measured)) for each in measured]),
        _table(["", "", "median", "range"], [row for each in measured for row in _figure_rows(*each)]),
        _table(
            ["requests", "", "each"],
            [row for each in measured if each[0].unit == "child" for row in _request_rows(*each)],
        ),
        _table(["", "commit", "API server", "machine"], [_origin_row(*each) for each in measured]),
    ]
    return "\n\n".join(parts)


def _measured(results: Results) -> Iterator[tuple[Scenario, Measured]]:
    for scenario in SCENARIOS:
        if (measured := results.scenarios.get(scenario.name)) and measured.samples:
            yield scenario, measured


def _rate_row(scenario: Scenario, measured: Measured) -> Row:
    def shown(of: Of, form: str) -> str:
        return _median(figures(measured.samples, of), form)

    cores = figures(measured.samples, lambda sample: sample.cores)
    others = figures(measured.samples, lambda sample: sample.foreign_cores)
    return [
        f"{scenario.title}: {scenario.units}",
        str(len(measured.samples)),
        _ranged(figures(measured.samples, lambda sample: sample.per_second), ".3g"),
        shown(lambda sample: sample.raw_per_second, ".3g"),
        _ranged(figures(measured.samples, lambda sample: sample.ratio), ".2f"),
        f"{_median(cores, '.2f')}, {_ranged(others, '.2f')}",
        shown(lambda sample: sample.writes, ".3f"),
        shown(lambda sample: sample.api_kib, ".0f"),
        shown(lambda sample: sample.etcd_kib, ".1f"),
        shown(lambda sample: sample.grpc_messages, ".2f"),
    ]


def _components(measured: Iterable[tuple[Scenario, Measured]]) -> list[str]:
    used = {name for _, each in measured for sample in each.samples for name in sample.cpu_ms}
    return [name for name in _COMPONENTS if name in used] + sorted(used - _COMPONENTS.keys())


def _cpu_row(scenario: Scenario, measured: Measured, components: list[str]) -> Row:
    used = dict(medians(measured.samples, lambda sample: sample.cpu_ms))
    cells = [f"{used[name]:.2f}" if name in used else "" for name in components]
    return [f"{scenario.title}: a {scenario.unit}", *cells]


def _figure_rows(scenario: Scenario, measured: Measured) -> Iterator[Row]:
    for name, median in medians(measured.samples, lambda sample: sample.figures):
        values = [sample.figures.get(name, 0.0) for sample in measured.samples]
        yield [scenario.title, name, _short(median), f"{_short(min(values))} to {_short(max(values))}"]


def _request_rows(scenario: Scenario, measured: Measured) -> Iterator[Row]:
    for name, median in medians(measured.samples, lambda sample: sample.requests):
        if median >= _SHOWN_REQUESTS:
            yield [scenario.title, name, f"{median:.3f}"]


def _origin_row(scenario: Scenario, measured: Measured) -> Row:
    return [scenario.title, measured.commit, measured.api, measured.machine]


def _short(value: float) -> str:
    """Three digits that count, and no exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _median(values: list[float], form: str) -> str:
    return f"{statistics.median(values):{form}}" if values else ""


def _ranged(values: list[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})" if values else ""


def _table(head: Row, rows: Iterable[Row]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


class Picture:
    """Bars, one for each row, of parts beside each other.

    Args:
        title: Above them.
        rows: Their names, from the top.
        parts: By name: the length in each row.
        ranges: The smallest and the largest value of each row, if that is to be shown.
    """

    def __init__(
        self,
        title: str,
        rows: list[str],
        parts: dict[str, list[float]],
        ranges: list[tuple[float, float]] | None = None,
    ) -> None:
        self._title, self._rows, self._parts, self._ranges = title, rows, parts, ranges

    @property
    def digest(self) -> str:
        """What the picture shows, as a short text that stands in the file."""
        shown = json.dumps([self._title, self._rows, self._parts, self._ranges])
        return hashlib.sha256(shown.encode()).hexdigest()[:16]

    def draw(self, path: Path) -> None:
        # Half a second, and only for whoever draws.
        import matplotlib as mpl
        from matplotlib.figure import Figure

        with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "performance"}):
            figure = Figure(figsize=(9, 0.8 + 0.28 * len(self._rows)), layout="constrained")
            axes = figure.add_subplot()
            left = [0.0] * len(self._rows)
            for name, lengths in self._parts.items():
                axes.barh(
                    self._rows, lengths, left=left, label=name, color=_COMPONENTS.get(name, "#4c72b0"), height=0.7
                )
                left = [begin + length for begin, length in zip(left, lengths, strict=True)]
            for row, (least, most) in enumerate(self._ranges or ()):
                axes.plot([least, most], [row, row], color="black", linewidth=1)
            axes.invert_yaxis()
            axes.set_title(self._title, loc="left")
            axes.grid(axis="x", alpha=0.3)
            if len(self._parts) > 1:
                axes.legend(frameon=False)
            figure.savefig(path, metadata={"Date": None, "Description": self.digest})
        path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")


def pictures(results: Results) -> dict[str, Picture]:
    """Return the pictures, by the name of their file."""
    measured = list(_measured(results))
    rates = [(scenario, figures(each.samples, lambda sample: sample.ratio)) for scenario, each in measured]
    rates = [(scenario, ratios) for scenario, ratios in rates if ratios]
    counted = [(scenario, each) for scenario, each in measured if scenario.unit in ("child", "run", "step")]
    counted = [
        (scenario, each) for scenario, each in counted if "operator" in each.samples[0].cpu_ms and scenario.minutes <= 1
    ]
    names = [name for name in _components(counted) if name != "client"]
    cpu = [dict(medians(each.samples, lambda sample: sample.cpu_ms)) for _, each in counted]
    return {
        "rates": Picture(
            "children or runs a second, over bare create + status pairs a second",
            [scenario.title for scenario, _ in rates],
            {"ratio": [statistics.median(ratios) for _, ratios in rates]},
            [(min(ratios), max(ratios)) for _, ratios in rates],
        ),
        "cpu": Picture(
            "CPU of a child, run or step, ms",
            [scenario.title for scenario, _ in counted],
            {name: [used.get(name, 0.0) for used in cpu] for name in names},
        ),
    }


def shown_digest(path: Path) -> str | None:
    """Return the digest of what a picture's file shows."""
    found = re.search(r"<dc:description>(\w+)</dc:description>", path.read_text())
    return found[1] if found else None


if __name__ == "__main__":
    write(load(PATH))
