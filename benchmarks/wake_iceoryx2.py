"""The two ends of bench_wake.py in iceoryx2, through its Python binding: polled, and with events.

A sample is the number of the commit. With events the sample is sent first, and then the listener is notified,
as iceoryx2's own example of it does.
"""

import ctypes
from multiprocessing.connection import Connection
from typing import Any

import iceoryx2 as iox2
import wake_pace
from peers import iceoryx2_node

from tickplant.clock import monotonic_ns

BUFFERED = 4096
"""Samples."""


def _service(node: iox2.Node) -> Any:
    named = node.service_builder(iox2.ServiceName.new("count")).publish_subscribe(ctypes.c_uint64)
    return named.subscriber_max_buffer_size(BUFFERED).open_or_create()


def _event(node: iox2.Node) -> Any:
    return node.service_builder(iox2.ServiceName.new("count")).event().open_or_create()


def commit(connection: Connection, folder: str, plant: str) -> None:
    """Child: on (count, interval, asleep) send so many samples in that rhythm."""
    wake_pace.settle(committer=True)
    node = iceoryx2_node.make(folder, plant)
    send = _service(node).publisher_builder().create().send_copy
    notify = _event(node).notifier_builder().create().notify
    connection.send("ready")
    while True:
        count, interval, asleep = connection.recv()
        start = wake_pace.start(interval)
        connection.send(start)
        for n in range(count):
            wake_pace.until(start + n * interval)
            send(ctypes.c_uint64(n + 1))
            if asleep:
                notify()


def read(connection: Connection, folder: str, plant: str) -> None:
    """Child: on (count, asleep) receive so many samples; send when which were seen.

    Asleep until it is notified; else it polls.
    """
    wake_pace.settle(committer=False)
    node = iceoryx2_node.make(folder, plant)
    wait = _event(node).listener_builder().create().blocking_wait
    receive, value = _service(node).subscriber_builder().create().receive, ctypes.c_uint64.from_address
    connection.send("ready")
    while True:
        count, asleep = connection.recv()
        have, seen = 0, []
        connection.send("reading")
        while have < count:
            sample = receive()
            if sample is not None:
                have = value(sample.payload_ptr).value
                seen.append((have, monotonic_ns()))
            elif asleep:
                wait()
        connection.send(seen)
