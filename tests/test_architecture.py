"""The shape of the package: who may import whom, and how large a piece may be."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "tickplant"

# From the bottom up. A module imports only what stands in a row below its own, or what belongs to
# the same folder (a role of several files).
LAYERS = (
    ("errors", "_core", "terminal"),
    ("clock", "hugepages", "owners", "plugin", "screen"),
    ("faults", "rates"),
    ("identity", "progress", "schema", "instruments", "sessions"),
    ("config",),
    ("keys", "wire"),
    ("messages", "shown"),
    ("frames",),
    ("analytics", "batch", "dates", "doorbell", "journal", "lock", "segment", "sockets"),
    ("dialogue", "requests", "selection"),
    ("control", "latest", "link", "listing", "sequencer", "syncer", "table", "zap"),
    ("catchup", "checkpoint", "conflation", "curve", "follower", "outboxes", "registry", "roster"),
    ("arrivals", "day", "questions", "refusals"),
    ("claimants", "conversion", "definitions", "draft", "naming"),
    ("engine", "feed", "finished", "hdb", "ingress", "local", "replay", "subscriber"),
    ("answers", "books", "tickerplant"),
    ("publisher",),
    ("backfill", "eod", "metrics", "repair", "service", "starter", "status"),
    ("supervisor", "testing"),
    ("demo", "preflight"),
    ("cli",),
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
RANK["feed.handlers"] = RANK["supervisor"]  # it runs a feed as a service: the edge of that role
FACADES = {"__init__", "__main__"}
"""What users see of the package: above everything."""
MODULES = sorted(PACKAGE.rglob("*.py"))
FUNCTION_MAX = 70
VAGUE = {"utils", "util", "common", "helper", "helpers", "misc", "manager", "base", "tools"}


def dotted(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def part(name):
    """The module or folder directly below the package that a dotted name belongs to."""
    return name.split(".")[0]


def is_part(name):
    return (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()


def imports(tree):
    """Parts of the package that are imported, and "" for the package itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            whole = node.module == "tickplant"
            names = [f"tickplant.{a.name}" if whole else node.module or "" for a in node.names]
        else:
            continue
        for name in names:
            if name == "tickplant" or name.startswith("tickplant."):
                inner = part(name.removeprefix("tickplant").lstrip("."))
                yield node.lineno, inner if is_part(inner) else ""


@pytest.fixture(params=MODULES, ids=[dotted(m) for m in MODULES])
def module(request):
    return dotted(request.param), request.param.read_text(), ast.parse(request.param.read_text())


def test_imports_go_strictly_downward(module):
    name, _, tree = module
    own = part(name)
    if own in FACADES:
        return
    assert own in RANK, f"{own} has no layer: give it one in LAYERS"
    for line, other in imports(tree):
        if other == own:
            assert (PACKAGE / own).is_dir(), f"{name}:{line} imports itself"
        elif other == "":
            assert own == "cli", f"{name}:{line} imports the facade"
        else:
            assert RANK[other] < RANK.get(name, RANK[own]), (
                f"{name}:{line} imports {other}, which is not below it"
            )


def test_only_clock_reads_a_clock(module):
    name, _, tree = module
    if name == "clock":
        return
    clocks = {"time": {"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns",
                       "localtime", "gmtime", "clock_gettime", "clock_gettime_ns"},
              "datetime": {"now", "utcnow", "today"}, "date": {"today"}}  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
            assert node.attr not in clocks.get(owner, ()), f"{name}:{node.lineno} reads a clock"
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            taken = {a.name for a in node.names} & clocks["time"]
            assert not taken, f"{name}:{node.lineno} imports {taken}"


def test_no_function_is_longer_than_a_page(module):
    name, _, tree = module
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= FUNCTION_MAX, f"{name}.{node.name} has {length} lines"


def test_no_name_says_nothing(module):
    name, _, _ = module
    assert not VAGUE & set(name.split(".")), name


def test_no_error_is_swallowed_unseen(module):
    """Catching everything is allowed to what passes it on; never to what does nothing."""
    name, _, tree = module
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            broad = node.type is None or (
                isinstance(node.type, ast.Name) and node.type.id in {"Exception", "BaseException"}
            )
            empty = all(isinstance(s, ast.Pass | ast.Continue) for s in node.body)
            assert not (broad and empty), f"{name}:{node.lineno} swallows every error"


def test_every_module_says_what_it_is_for(module):
    name, text, tree = module
    assert not text.strip() or ast.get_docstring(tree), f"{name} has no docstring"


def test_the_native_core_has_a_stub_for_each_module_and_one_header_per_concept():
    core = PACKAGE / "_core"
    assert {p.stem for p in core.glob("*.pyx")} == {p.stem for p in core.glob("*.pyi")}
    concepts = {"crc32c", "frame", "rowsum", "futex", "latch", "table", "intake"}
    assert concepts <= {p.stem for p in core.glob("*.h")}
    for header in core.glob("*.h"):
        assert f"#ifndef TP_{header.stem.upper()}_H" in header.read_text(), header.name
