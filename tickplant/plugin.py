"""Code of your own: where what a configuration or a command names as `package.module:attribute` is found.

One rule for every command: what is installed comes first; then the folder of the configuration file; then
the current folder. Nothing in a folder takes the place of what is installed, and a folder is looked into only
if what is named is not installed.
"""

import importlib
import importlib.machinery
import sys
from pathlib import Path
from typing import Any

from tickplant.errors import ConfigError

_beside: list[Path] = []
"""Folders of configuration files that were read."""


def look_in(folder: Path) -> None:
    """Look into this folder, too: that of a configuration file."""
    if folder not in _beside:
        _beside.append(folder)


def folders() -> list[Path]:
    """Where what is not installed is looked for, in this order."""
    return [folder.absolute() for folder in (*_beside, Path())]


def load(name: str, what: str) -> Any:
    """What is named as `package.module:attribute`; `what`: what it is to be, for the error.

    Raises ConfigError if it is not there, with where it was looked for.
    """
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise ConfigError(f"no {what} {name!r}: it is not of the form package.module:name")
    try:
        return getattr(_import(module), attribute)
    except AttributeError:
        raise ConfigError(f"no {what} {name!r}: {module} has no {attribute}") from None
    except ImportError as e:
        places = ", ".join(map(str, folders()))
        raise ConfigError(
            f"no {what} {name!r}: {e}; looked for in what is installed for {sys.executable}, then in {places}"
        ) from None


def _import(module: str) -> Any:
    top = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as e:
        if e.name != top:
            raise
    for folder in folders():
        if importlib.machinery.PathFinder.find_spec(top, [str(folder)]):
            sys.path.append(str(folder))  # at the end, and for what it imports itself
            break
    importlib.invalidate_caches()
    return importlib.import_module(module)
