"""RFC vectors, an independent oracle, and proofs that nothing else passes."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from askesis.store.merkle import (
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)

# The inputs and roots of the Certificate Transparency reference tests (RFC 6962 and 9162 hash alike).
INPUTS = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
LEAVES = [leaf_hash(bytes.fromhex(x)) for x in INPUTS]


def oracle(leaves: list[bytes]) -> bytes:
    """The definition of RFC 9162, 2.1.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + oracle(leaves[:k]) + oracle(leaves[k:])).digest()


def tree(size: int) -> list[bytes]:
    return [leaf_hash(i.to_bytes(4, "big")) for i in range(size)]


@pytest.mark.parametrize("size", range(9))
def test_the_roots_of_the_reference_tests(size: int) -> None:
    assert root_of(LEAVES[:size]).hex() == ROOTS[size]


def test_the_inclusion_paths_of_the_reference_tests() -> None:
    assert [x.hex() for x in inclusion_proof(LEAVES, 0)] == [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]
    assert [x.hex() for x in inclusion_proof(LEAVES[:3], 2)] == [ROOTS[2]]


def test_the_consistency_path_of_the_reference_tests() -> None:
    assert [x.hex() for x in consistency_proof(LEAVES, 1)][:1] == [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
    ]
    assert consistency_proof(LEAVES, 8) == []


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 300))
def test_the_frontier_agrees_with_the_definition(size: int) -> None:
    leaves = tree(size)
    frontier = Frontier()
    for leaf in leaves:
        frontier.push(leaf)
    assert frontier.root() == oracle(leaves)
    assert len(frontier.peaks) == bin(size).count("1")
    again = Frontier.from_bytes(size, frontier.to_bytes())
    again.push(leaf_hash(b"next"))
    assert again.root() == oracle([*leaves, leaf_hash(b"next")])


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 70), st.data())
def test_inclusion_holds_and_nothing_else_passes(size: int, data: st.DataObject) -> None:
    leaves, index = tree(size), data.draw(st.integers(0, size - 1))
    proof, root = inclusion_proof(leaves, index), oracle(leaves)
    assert verify_inclusion(leaves[index], index, size, proof, root)
    assert not verify_inclusion(leaf_hash(b"other"), index, size, proof, root)
    assert not verify_inclusion(leaves[index], index, size, [*proof, root], root)
    assert not verify_inclusion(leaves[index], size, size, proof, root)
    for place in range(len(proof)):
        bad = [bytes([x[0] ^ 1]) + x[1:] if i == place else x for i, x in enumerate(proof)]
        assert not verify_inclusion(leaves[index], index, size, bad, root)
        assert not verify_inclusion(leaves[index], index, size, proof[:place] + proof[place + 1 :], root)
    for wrong in range(size):
        if wrong != index:
            assert not verify_inclusion(leaves[index], wrong, size, proof, root)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 70), st.data())
def test_consistency_holds_and_nothing_else_passes(size: int, data: st.DataObject) -> None:
    old_size = data.draw(st.integers(1, size))
    leaves = tree(size)
    old, new, proof = oracle(leaves[:old_size]), oracle(leaves), consistency_proof(leaves, old_size)
    assert verify_consistency(old_size, old, size, new, proof)
    assert not verify_consistency(old_size, leaf_hash(b"x"), size, new, proof)
    assert not verify_consistency(old_size, old, size, leaf_hash(b"x"), proof)
    assert not verify_consistency(0, old, size, new, proof)
    assert not verify_consistency(old_size, old, size, new, [*proof, old])
    for place in range(len(proof)):
        bad = [bytes([x[0] ^ 1]) + x[1:] if i == place else x for i, x in enumerate(proof)]
        assert not verify_consistency(old_size, old, size, new, bad)


def test_a_leaf_cannot_pass_as_a_node() -> None:
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    assert node_hash(left, right) != leaf_hash(left + right)


def test_what_does_not_exist_is_refused() -> None:
    with pytest.raises(IndexError):
        inclusion_proof(LEAVES, 8)
    with pytest.raises(IndexError):
        consistency_proof(LEAVES, 0)
    with pytest.raises(ValueError, match="peaks"):
        Frontier(3, [b"\0" * 32])
    with pytest.raises(ValueError, match="32 bytes"):
        Frontier.from_bytes(1, b"short")
    assert not verify_consistency(1, LEAVES[0], 2, root_of(LEAVES[:2]), [])
    assert not verify_consistency(3, ROOTS[3].encode(), 4, LEAVES[0], [])
