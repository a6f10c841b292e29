"""A plant with keys: revoked and accepted again while processes and network are as bad as without."""

import random
import shutil
from typing import Any

from faults import network
from faults.case import Case, Fault
from faults.processes import FEEDS, killed, stopped
from faults.site import Site
from tickplant.keys import FEEDS as FEED_KEYS
from tickplant.keys import READERS, Keys


def keyed(content: dict[str, Any], site: Site) -> None:
    """CURVE, and a key for each feed and each remote reader, the secret ones where these are."""
    content["security"] |= {"curve": True}
    keys = Keys(site.folder / "data" / "keys")
    for name, domain in (
        *((n, FEED_KEYS) for n in content["feeds"]),
        *((n, READERS) for n in network.REMOTE),
    ):
        (site.away / domain).mkdir(parents=True, exist_ok=True)
        shutil.move(keys.new(name, domain), site.away / domain)


def revoked(domain: str, *names: str) -> Fault:
    """A key is revoked, and after some seconds accepted again; nobody is told, and nobody started again."""

    def fault(site: Site, choice: random.Random) -> bool:
        keys, name = Keys(site.config.keys_dir), choice.choice(names)
        keys.revoke(name)
        site.pause(choice.uniform(0.0, 4.0))
        path = site.config.keys_dir / domain / f"{name}.revoked"
        path.rename(path.with_suffix(".key"))
        return True

    return fault


CASES = {
    "curve": Case(
        [
            *[revoked(FEED_KEYS, "one", "two"), revoked(READERS, *network.REMOTE)] * 3,
            killed("tickerplant"), killed("publisher"), killed(*FEEDS), killed(*network.REMOTE),
            stopped("tickerplant", "publisher", *FEEDS, *network.REMOTE),
            *[kind(*network.BOTH) for kind in network.KINDS if kind is not network.lossy],
            network.lossy("ingress", "publish"),
        ],
        mixed=False, settings=keyed,
    ),
}  # fmt: skip
