"""Frames of books that are read at one go give the rows that they give when they are read in two steps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_venue_coinbase import ALL as COINBASE
from test_venue_coinbase import SNAPSHOT as COINBASE_SNAPSHOT
from test_venue_kraken import V2
from test_venue_okx import ALL as OKX
from test_venue_okx import SNAPSHOT as OKX_SNAPSHOT
from venue_frames import Heard, noise, one_bent

from tickplant.feed.venues import coinbase, kraken_v2, okx
from tickplant.feed.venues.coinbase import Coinbase
from tickplant.feed.venues.kraken_v2 import KrakenV2
from tickplant.feed.venues.okx import Okx

VENUES = {
    Okx: (okx.BOOK_HEAD, [OKX_SNAPSHOT, *OKX]),
    Coinbase: (coinbase.BOOK_HEAD, [COINBASE_SNAPSHOT, *COINBASE]),
    KrakenV2: (kraken_v2.BOOK_HEAD, [*V2, *V2[3:5]]),
}


def rows(venue, frames):
    heard = Heard(venue())(*frames)
    taken = heard.rows()
    if "event" in taken:
        taken["event"]["text"] = b""  # where in the message the fault is
    return {table: of.tobytes() for table, of in taken.items()}, heard.venue.account


@pytest.mark.parametrize("venue", VENUES)
@given(data=st.data())
def test_a_space_that_hides_what_a_frame_is_changes_no_row(venue, data):
    head, messages = VENUES[venue]
    frames = data.draw(one_bent(messages) | noise([m for m in messages if not isinstance(m, str)]))
    hidden = [f[:1] + b" " + f[1:] if f[:1] == b"{" else f for f in frames]
    assert not any(f.startswith(head) for f in hidden)
    assert rows(venue, frames) == rows(venue, hidden)


@pytest.mark.parametrize("venue", VENUES)
def test_a_book_that_begins_as_another_channel_is_no_book(venue):
    head, _ = VENUES[venue]
    begun = head + (b'"},' if venue is Okx else b",")
    for more in (b'"arg":{"channel":"trades"}', b'"channel":"trade"', b'"channel":"x"'):
        heard = Heard(venue())(begun + more + b"}")
        assert heard.venue.account.malformed + heard.venue.account.messages.total() == 1
        assert not heard.venue.books
