"""Messages between the driver and its ranks: what is read is what was written."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from askesis.algorithms import PRESETS, Sums, build
from askesis.errors import AlgorithmError
from askesis.learners.batch import Row
from askesis.learners.ranks.wire import (
    HEADER,
    Message,
    pack_message,
    read_algorithm,
    read_pieces,
    read_rows,
    read_shares,
    unpack_message,
    write_algorithm,
    write_pieces,
    write_rows,
    write_shares,
)
from askesis.learners.shares import Piece, Share

CPU = torch.device("cpu")


def travelled(message: Message) -> Message:
    head, body = pack_message(message)
    sizes = HEADER.unpack(head[: HEADER.size])
    assert sizes == (len(head) - HEADER.size, len(body))
    return unpack_message(head[HEADER.size :], body)


def row(tokens: list[int], at: list[int]) -> Row:
    count = len(at)
    return Row(
        tokens=np.array(tokens, np.uint32),
        at=np.array(at),
        behaviour=np.full(count, -1.0, np.float32),
        turn=np.zeros(count, np.int32),
        version=np.zeros(count, np.int32),
        sample=3,
    )


def piece(**changes: torch.Tensor) -> Piece:
    table = torch.arange(4.0).view(2, 2)
    known = dict.fromkeys(("behaviour_BT", "advantage_BT", "weight_BT"), table)
    rows = (row([1, 4_000_000_000, 3], [1, 2]), row([7, 8], [1]))
    mask, sequence = torch.tensor([[True, True], [True, False]]), torch.tensor([0, 1])
    return Piece(cut=[4, 2], rows=rows, mask_BT=mask, sequence_B=sequence, **known, **changes)


def test_a_message_without_tensors_is_json() -> None:
    assert travelled(Message({"do": "step", "lr": 0.1}, {})) == Message({"do": "step", "lr": 0.1}, {})


def test_tensors_keep_type_shape_and_bits() -> None:
    tensors = {"a": torch.randn(3, 2).bfloat16().t(), "b": torch.tensor(2), "c": torch.empty(0, 4)}
    back = travelled(Message({}, tensors)).tensors
    assert all(torch.equal(back[name], t) and back[name].dtype == t.dtype for name, t in tensors.items())


def test_rows_come_back_by_micro_batch() -> None:
    back = read_rows(travelled(write_rows([piece().rows, piece().rows[1:]])))
    assert [[r.tokens.tolist() for r in rows] for rows in back] == [[[1, 4_000_000_000, 3], [7, 8]], [[7, 8]]]
    assert [[r.at.tolist() for r in rows] for rows in back] == [[[1, 2], [1]], [[1]]]
    assert back[0][0].tokens.dtype == np.uint32


def test_pieces_come_back_with_what_they_have() -> None:
    coupled = piece(passed_BT=torch.full((2, 2), 0.5))
    first, second = read_pieces(travelled(write_pieces([piece(), coupled])), CPU)
    assert first.passed_BT is None and first.return_BT is None
    assert second.passed_BT is not None and torch.equal(second.passed_BT, torch.full((2, 2), 0.5))
    for name in ("behaviour_BT", "advantage_BT", "mask_BT", "weight_BT", "sequence_B"):
        assert torch.equal(getattr(first, name), getattr(piece(), name))


def test_shares_come_back_to_the_last_bit() -> None:
    total = torch.tensor(1 / 3)
    share = Share(
        torch.zeros(()), float(total), {"kl": Sums(total=total, count=torch.tensor(7))}, [1], torch.ones(1, 2)
    )
    (back,) = read_shares(travelled(write_shares([share])), CPU)
    assert back.loss == share.loss
    assert back.diagnostics["kl"].mean() == share.diagnostics["kl"].mean()
    assert torch.equal(back.logp_BT, share.logp_BT)


@pytest.mark.parametrize("name", [preset.name for preset in PRESETS])
def test_every_preset_can_be_built_anew(name: str) -> None:
    written = travelled(Message(write_algorithm(build(name)), {})).head
    assert read_algorithm(written) == build(name)


def test_options_and_own_values_travel_too() -> None:
    algorithm = replace(build("grpo", {"kl_beta": 0.25, "objective": "gspo"}), drops_truncated=True)
    back = read_algorithm(write_algorithm(algorithm))
    assert replace(back, changed=algorithm.changed) == algorithm


def test_what_no_preset_makes_is_refused() -> None:
    foreign = replace(build("grpo"), objective=replace(build("grpo").objective, name="mine"))
    with pytest.raises(AlgorithmError, match="not made from a preset") as caught:
        write_algorithm(foreign)
    assert "cluster.learner_ranks=1" in str(caught.value)
