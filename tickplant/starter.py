"""A first configuration: small, complete, and of a plant that runs as it is, with a simulated venue."""

import re
import socket
from pathlib import Path

from tickplant.config import shipped
from tickplant.errors import ConfigError
from tickplant.segment import SHM

FILE = "tickplant.toml"
PORTS = 4
_FIRST_PORT, _LAST_PORT = 7010, 7990

_TEXT = """\
# A plant with one simulated venue. Every other setting, its default and why it is so:
# {shipped}

[plant]
name = "{name}"
data_dir = "{folder}/data"     # journals, PostgreSQL, outboxes, proofs
run_dir = "{folder}/run"       # sockets, locks, status files
timezone = "UTC"               # the trading date ends at `roll` of this time zone
roll = "00:00"

[tickerplant]
ingress = "tcp://127.0.0.1:{ports[0]}"
repair = "tcp://127.0.0.1:{ports[1]}"

[publisher]
publish = "tcp://127.0.0.1:{ports[2]}"
request = "tcp://127.0.0.1:{ports[3]}"

[feeds.simulated]              # a feed: a number for ever, since it is stored in every row
id = 1
handler = "simulated"
options = {{ venue = "XSIM", instruments = 50, rate = 2000.0 }}

# A real venue (needs the internet); README has the list:
# [feeds.kraken]
# id = 2
# handler = "kraken-v2"
# options = {{ symbols = ["BTC-USD", "ETH-USD"] }}

# A table of your own, beside those that come with tickplant:
# [tables.signal.columns]
# score = "f8"
"""


def write(folder: Path) -> Path:
    """Write the configuration of a plant that lives in `folder`, which is made if need be; the file's path.

    Raises ConfigError if there is one already, or if it can't be written.
    """
    folder = folder.absolute()
    path = folder / FILE
    text = _TEXT.format(shipped=shipped(), name=_name(folder), folder=folder, ports=_ports())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("x") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"{path} is there already; run it: tickplant --config {path} up") from None
    except OSError as e:
        raise ConfigError(
            f"can't write {path}: {e.strerror}; choose another folder: tickplant init DIR"
        ) from None
    return path


def _name(folder: Path) -> str:
    """A name for the plant, after its folder, that no plant's shared memory on this host has."""
    wanted = re.sub(r"[^a-z0-9_]+", "_", folder.name.lower()).strip("_")[:24] or "tp"
    name, number = wanted, 2
    while any(SHM.glob(f"tp.{name}.*")):
        name, number = f"{wanted}{number}", number + 1
    return name


def _ports() -> list[int]:
    """Ports for the four endpoints: the usual ones, or the first four in a row that nothing listens at."""
    for first in range(_FIRST_PORT, _LAST_PORT, 10):
        ports = [*range(first, first + PORTS)]
        if all(map(_free, ports)):
            return ports
    raise ConfigError(f"no four ports in a row from {_FIRST_PORT} to {_LAST_PORT} are free; see: ss -ltn")


def _free(port: int) -> bool:
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
