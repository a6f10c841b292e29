"""Broken variants of the product: sources with one thing changed, where it must be found exactly once."""

import sys
import types
from pathlib import Path

from fix_core import ROOT

CORE = ROOT / "tickplant" / "_core"


def changed(path, *changes):
    """The text of a source with each (old, new) applied. Fails when `old` is not in it exactly once."""
    text = Path(path).read_text()
    for old, new in changes:
        found = text.count(old)
        assert found == 1, f"{path}: found {found} times, so this variant is none any more:\n{old}"
        text = text.replace(old, new)
    return text


def headers(folder, name, *changes):
    """A folder with the core's headers, one of them changed."""
    for header in CORE.glob("*.h"):
        text = changed(header, *changes) if header.stem == name else header.read_text()
        (folder / header.name).write_text(text)
    return folder


def module(name, *changes):
    """A module of its own, made from the changed source of `tickplant.<name>`."""
    path = ROOT / "tickplant" / f"{name.replace('.', '/')}.py"
    made = types.ModuleType(f"broken_{name}")
    sys.modules[made.__name__] = made  # dataclasses look for it there
    try:
        exec(compile(changed(path, *changes), str(path), "exec"), made.__dict__)
    finally:
        del sys.modules[made.__name__]
    return made
