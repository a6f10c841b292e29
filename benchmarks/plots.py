"""The plots of docs/PERFORMANCE.md, as SVG."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "tickplant"  # the same results draw the same file
from matplotlib import pyplot  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402

Results = list[dict[str, Any]]


def series(results: Results, prefix: str) -> list[tuple[int, dict[str, Any]]]:
    """Results whose names are the prefix and a number, by that number."""
    found = [(r["name"].removeprefix(prefix), r) for r in results
             if r["name"].startswith(prefix) and "error" not in r]  # fmt: skip
    return sorted(((int(n), r) for n, r in found if n.isdigit()), key=lambda f: f[0])


def latency(axes: Axes, results: Results) -> bool:
    """Percentiles of each way a row can take."""
    found = [(whose, p) for r in results for whose, p in r.get("percentiles", {}).items()
             if r["bench"] == "latency"]  # fmt: skip
    for label, p in found:
        axes.plot(list(p), list(p.values()), marker="o", label=label)
    axes.set(yscale="log", ylabel="µs", title="From a feed's call to a reader that slept")
    return bool(found)


def throughput(axes: Axes, results: Results) -> bool:
    """Rows a second against rows in a message."""
    found = series(results, "ingest_")
    for whose in ("ours", "limit"):
        axes.plot([n for n, _ in found], [r[whose] for _, r in found], marker="o", label=whose)
    axes.set(xscale="log", yscale="log", xlabel="rows in a message", ylabel="rows/s",
             title="Ingest: from the socket to journal and table")  # fmt: skip
    return bool(found)


def readers(axes: Axes, results: Results) -> bool:
    """What a row costs the plant against the number of readers."""
    found = [(label, series(results, prefix)) for label, prefix in
             (("local readers", "readers_local_"), ("remote readers", "readers_remote_"))]  # fmt: skip
    for label, points in found:
        axes.plot([n for n, _ in points], [r["ours"] for _, r in points], marker="o", label=label)
    axes.set(xlabel="readers", ylabel="ns of processors per row", title="What readers cost the ticker plant")
    axes.set_ylim(bottom=0)
    return any(points for _, points in found)


def scaling(axes: Axes, results: Results) -> bool:
    """The cost of a row against the size of everything."""
    kinds = ("rows", "instruments", "tables", "feeds", "readers")
    found = [(kind, series(results, f"scaling_{kind}_")) for kind in kinds]
    for label, points in found:
        if points:
            axes.plot(
                [max(n, 1) for n, _ in points], [r["ratio"] for _, r in points], marker="o", label=label
            )
    axes.set(xscale="log", xlabel="how many", ylabel="x the fewest", title="What a row costs")
    axes.set_ylim(bottom=0)
    return any(points for _, points in found)


DRAWN: dict[str, tuple[Callable[[Axes, Results], bool], str]] = {
    "latency": (latency, "Percentiles of latency"),
    "throughput": (throughput, "Rows a second against rows in a message"),
    "readers": (readers, "Cost of a row against the number of readers"),
    "scaling": (scaling, "Cost of a row as the plant grows"),
}


def draw(results: Results, folder: Path) -> list[tuple[Path, str]]:
    """One file for each plot that there are results for; the files, and what they show."""
    made = []
    for name, (fill, says) in DRAWN.items():
        figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
        if fill(axes, results):
            axes.grid(visible=True, which="major", alpha=0.3)
            axes.legend()
            path = folder / f"{name}.svg"
            figure.savefig(path, metadata={"Date": None})
            made.append((path, says))
        pyplot.close(figure)
    return made
