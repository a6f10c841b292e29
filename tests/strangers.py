"""Another user of this host, for tests as root: functions that are run as one in a child process."""

import os
import pickle
from collections.abc import Callable
from typing import Any

import pytest

NOBODY = 65534


def as_user(function: Callable[[], Any], uid: int = NOBODY, gid: int = NOBODY) -> Any:
    """What a function gives, or raises, when this user calls it, who is in this group alone.

    The child uses nothing that has threads or locks of the parent's. It is forked, because nobody else could
    start an interpreter that lies below /root.
    """
    if os.geteuid():
        pytest.skip("only root can be another user")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([gid])
            os.setgid(gid)
            os.setuid(uid)
            os.umask(0)
            try:
                answer = (True, function())
            except Exception as e:
                answer = (False, e)
            os.write(writing, pickle.dumps(answer))
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    good, value = pickle.loads(said)
    if not good:
        raise value
    return value
