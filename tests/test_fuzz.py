"""Each fuzz target over its own corpus and some mutations of it, without atheris."""

import zlib

import pytest

from fuzz.mutations import mutations
from fuzz.target import joined, pieces
from fuzz.targets import TARGETS

MUTATIONS = {"journal": 20, "recording": 60, "itch50": 100, "columns": 40}
"""How many, where they are slow (by the name's beginning); else 200."""


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_makes_a_decoder_fail(name):
    target = TARGETS[name]
    corpus = target.corpus()
    assert any(corpus)
    count = MUTATIONS.get(name.partition("-")[0], 200)
    for data in (*corpus, b"", *mutations(corpus, count, zlib.crc32(name.encode()))):
        target.run(data)


def test_pieces_are_the_inverse_of_joined():
    parts = [b"", b"a", b"bc" * 300]
    assert pieces(joined(parts)) == parts
    assert pieces(joined(parts)[:-1])[-1] == parts[-1][:-1]
    assert pieces(b"\0") == [b""]


def test_mutations_are_the_same_for_a_seed_and_differ_from_one_another():
    made = [list(mutations([b"hello", b"world, world"], 50, seed)) for seed in (1, 1, 2)]
    assert made[0] == made[1] != made[2]
    assert len(set(made[0])) > 40
