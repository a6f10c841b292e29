"""iceoryx2: shared memory between processes, here with an event for each message, which readers sleep for.

It keeps nothing: rows are there when a reader has them.
"""

import contextlib
import ctypes
from collections.abc import Iterator, Sequence
from typing import Any

import harness
import iceoryx2 as iox2

from peers import ends, iceoryx2_node

PROMISE = "not kept, received by one reader"
STORES = False
BUFFERED, READERS = 1000, 16
"""Samples of one reader; readers at most."""


@contextlib.contextmanager
def serve(site: harness.Site) -> Iterator[str]:
    """The site's folder and plant: there is no server."""
    yield f"{site.folder}:{site.name}"


def _open(address: str) -> tuple[iox2.Node, Any, Any]:
    node = iceoryx2_node.make(*address.split(":"))
    name = iox2.ServiceName.new("trade")
    service = node.service_builder(name).publish_subscribe(iox2.Slice[ctypes.c_uint8])
    service = service.subscriber_max_buffer_size(BUFFERED).max_subscribers(READERS)
    event = node.service_builder(name).event().max_listeners(READERS).open_or_create()
    return node, service.enable_safe_overflow(False).open_or_create(), event


class Source(ends.Source):
    """Copies messages into samples; waits for readers whose buffers are full."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._node, service, event = _open(address)
        builder = service.publisher_builder().initial_max_slice_len(100 * ends.trade().row_size)
        strategy = iox2.BackpressureStrategy.RetryUntilDelivered
        self._loan = builder.backpressure_strategy(strategy).create().loan_slice_uninit
        self._notify = event.notifier_builder().create().notify

    def pour(self, made: Sequence[bytes]) -> None:
        for message in made:
            sample = self._loan(len(message))
            ctypes.memmove(sample.payload_ptr, message, len(message))
            sample.assume_init().send()
            self._notify()


class Sink:
    """A subscriber, and a listener to sleep with."""

    def __init__(self, address: str) -> None:
        self._node, service, event = _open(address)
        self._subscriber = service.subscriber_builder().create()
        self._listener = event.listener_builder().create()

    def take(self) -> Sequence[bytes]:
        messages = []
        while sample := self._subscriber.receive():
            messages.append(ctypes.string_at(sample.payload_ptr, sample.header.number_of_elements))
        if not messages:
            self._listener.timed_wait(iox2.Duration.from_secs(1))
        return messages

    def close(self) -> None:
        self._subscriber.delete()
        self._listener.delete()
