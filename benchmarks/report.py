"""From the results of the benchmarks to docs/PERFORMANCE.md: its measured part, and the plots in it.

What people wrote on that page, above and below the two marks, stays.
"""

from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent.parent / "docs"
PAGE, PLOTS = DOCS / "PERFORMANCE.md", DOCS / "performance"
BEGIN, END = "<!-- measured: made by bin/bench --report -->", "<!-- end of measured -->"
_SCALES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def number(value: float | None) -> str:
    """A number for people, to three digits or so."""
    if value is None:
        return ""
    for scale, letter in _SCALES:
        if abs(value) >= scale:
            return f"{value / scale:.3g} {letter}"
    return f"{value:.3g}"


def goal(result: dict[str, Any]) -> str:
    """What was to be reached."""
    if result.get("goal") is None:
        return ""
    of = f" {result['unit']}" if result["absolute"] else " x"
    return f"{'≤' if result['at_most'] else '≥'} {number(result['goal'])}{of}"


def shown(result: dict[str, Any]) -> str:
    """A result as a line of the screen."""
    if "error" in result:
        return f"{result['name']:<27} [red]{result['error']}"
    mark = {True: "[green]met", False: "[red]missed", None: ""}[result["met"]]
    ratio = f"{result['ratio']:.3g} x" if result["ratio"] else ""
    return (
        f"{result['name']:<27}{number(result['ours']):>7} {result['unit']:<11}"
        f"{number(result['limit']):>7}{ratio:>9}  {goal(result):<19}{mark}"
    )


def table(results: list[dict[str, Any]]) -> list[str]:
    """The results as a table of Markdown."""
    lines = [
        "| what | ours | limit | ratio | rounds: ours, limit | goal | met |",
        "|---|--:|--:|--:|---|---|---|",
    ]
    for r in results:
        if "error" in r:
            lines.append(f"| {r['name']} | {r['error']} | | | | | |")
            continue
        spread = f"{number(r['ours_min'])}-{number(r['ours_max'])}"
        if r["limit"] is not None:
            spread += f", {number(r['limit_min'])}-{number(r['limit_max'])}"
        met = {True: "yes", False: "**no**", None: ""}[r["met"]]
        ratio = f"{r['ratio']:.3g}" if r["ratio"] else ""
        lines.append(
            f"| {r['what']} (`{r['name']}`) | {number(r['ours'])} {r['unit']} | {number(r['limit'])} "
            f"| {ratio} | {spread} | {goal(r)} | {met} |"
        )
    return lines


def percentiles(results: list[dict[str, Any]]) -> list[str]:
    """The percentiles of those results that have some."""
    found = [(r["name"], whose, p) for r in results for whose, p in r.get("percentiles", {}).items()]
    if not found:
        return []
    heads = list(found[0][2])
    unit = next(r["unit"] for r in results if "percentiles" in r)
    lines = [f"| {unit} | | {' | '.join(heads)} |", "|---|---|" + "--:|" * len(heads)]
    lines += [
        f"| `{name}` | {whose} | {' | '.join(number(p[h]) for h in heads)} |" for name, whose, p in found
    ]
    return ["", "Percentiles, of all rounds together:", "", *lines]


def write(kept: dict[str, Any]) -> None:
    """Put the results into the page, and the plots beside it."""
    results, host = kept["results"], kept["host"]
    facts = ", ".join(
        [f"{host['cores']} cores of {host['cpu']}", f"{host['memory_gib']} GiB", f"Linux {host['kernel']}",
         f"Python {host['python']}", f"libzmq {host['libzmq']}", f"numpy {host['numpy']}"]
    )  # fmt: skip
    lines = [BEGIN, "", f"Measured on {host['date']}: {facts}; load before: {host['load_before']}.", ""]
    lines += table(results) + percentiles(results)
    for path, says in plots(results):
        lines += ["", f"![{says}](performance/{path.name})"]
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + "\n".join([*lines, "", END]) + rest.partition(END)[2])


def plots(results: list[dict[str, Any]]) -> list[tuple[Path, str]]:
    """Draw what there is to be drawn; the files, and what they show."""
    import plots as drawn  # needs matplotlib, which only a report does

    PLOTS.mkdir(exist_ok=True)
    return drawn.draw(results, PLOTS)
