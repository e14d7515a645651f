"""One number from many tokens: the worked numbers, and indifference to padding, order, ids and cuts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from askesis.algorithms.aggregation import Aggregation, Denominators, denominators, token_weights
from askesis.errors import AlgorithmError

MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]], dtype=torch.bool)
LOSS = torch.tensor([[1.0, 1.0, 1.0, 1.0], [2.0, 2.0, 9.0, 9.0]])


def weights(mask: torch.Tensor, sequence: torch.Tensor, kind: Aggregation, norm_length: int = 8) -> torch.Tensor:
    totals = denominators(mask, sequence)
    return token_weights(mask, sequence, kind, denominators=totals, norm_length=norm_length)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Aggregation.TOKEN_MEAN, 1.333333),
        (Aggregation.ROW_MEAN, 1.5),
        (Aggregation.SEQ_MEAN_TOKEN_MEAN, 1.5),
        (Aggregation.SEQ_MEAN_TOKEN_SUM, 4.0),
        (Aggregation.SEQ_MEAN_TOKEN_SUM_NORM, 0.5),
    ],
)
def test_worked_numbers(kind: Aggregation, value: float) -> None:
    weight_BT = weights(MASK, torch.tensor([0, 1]), kind)
    assert weight_BT.dtype == torch.float32
    assert float((weight_BT * LOSS).sum()) == pytest.approx(value, abs=1e-6)


def test_a_sequence_of_two_rows_is_one_sequence() -> None:
    # Rows 0 and 2 form one sequence of 3 tokens, row 1 another of 2: two sequences, not three.
    mask = torch.tensor([[1, 1], [1, 1], [1, 0]], dtype=torch.bool)
    got = weights(mask, torch.tensor([7, 3, 7]), Aggregation.SEQ_MEAN_TOKEN_MEAN)
    assert torch.allclose(got, torch.tensor([[1 / 6, 1 / 6], [1 / 4, 1 / 4], [1 / 6, 0]]))


def test_a_packed_row_per_token_gives_the_weights_of_the_padded_form() -> None:
    for kind in Aggregation:
        padded = weights(MASK, torch.tensor([0, 1]), kind)[MASK]
        ones, rows = torch.ones(6, 1, dtype=torch.bool), torch.tensor([0, 0, 0, 0, 1, 1])
        totals = denominators(ones, rows, row_B=rows)
        packed = token_weights(ones, rows, kind, denominators=totals, norm_length=8, row_B=rows)
        assert torch.equal(packed[:, 0], padded)


@pytest.mark.parametrize("kind", Aggregation)
def test_nothing_sampled_weighs_nothing(kind: Aggregation) -> None:
    assert not weights(torch.zeros(2, 3, dtype=torch.bool), torch.tensor([0, 1]), kind).any()
    assert weights(torch.zeros(0, 3, dtype=torch.bool), torch.zeros(0, dtype=torch.int64), kind).shape == (0, 3)


@st.composite
def batches(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    rows, columns = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    mask = torch.tensor([[draw(st.booleans()) for _ in range(columns)] for _ in range(rows)])
    return mask, torch.tensor([draw(st.integers(0, 3)) for _ in range(rows)])


@settings(max_examples=40, deadline=None)
@given(batches(), st.sampled_from(list(Aggregation)), st.integers(0, 99))
def test_padding_order_and_ids_do_not_matter(
    batch: tuple[torch.Tensor, torch.Tensor], kind: Aggregation, seed: int
) -> None:
    mask, sequence = batch
    plain = weights(mask, sequence, kind)
    padded_mask = torch.nn.functional.pad(mask, (1, 2, 0, 1))
    padded = weights(padded_mask, torch.cat([sequence, torch.tensor([99])]), kind)
    assert torch.equal(padded[:-1, 1:-2], plain) and not padded[-1].any()
    order = torch.randperm(len(mask), generator=torch.Generator().manual_seed(seed))
    assert torch.equal(weights(mask[order], sequence[order] * -1000 + 5, kind), plain[order])


@settings(max_examples=40, deadline=None)
@given(batches(), st.sampled_from(list(Aggregation)))
def test_ranks_with_added_denominators_give_the_weights_of_the_whole(
    batch: tuple[torch.Tensor, torch.Tensor], kind: Aggregation
) -> None:
    mask, sequence = batch
    parts = [sequence % 2 == rank for rank in (0, 1)]
    totals = denominators(mask[parts[0]], sequence[parts[0]]) + denominators(mask[parts[1]], sequence[parts[1]])
    assert totals == denominators(mask, sequence)
    whole = weights(mask, sequence, kind)
    for part in parts:
        own = token_weights(mask[part], sequence[part], kind, denominators=totals, norm_length=8)
        assert torch.equal(own, whole[part])


def test_denominators_count_sampled_tokens_and_sequences_that_have_some() -> None:
    mask = torch.tensor([[1, 0], [0, 0], [1, 1], [1, 0]], dtype=torch.bool)
    assert denominators(mask, torch.tensor([4, 5, 4, 6])) == Denominators(num_tokens=4, num_sequences=2, num_rows=3)


def test_memsearcher_7a_3_three_weightings_of_several_contexts() -> None:
    # Five trajectories with rewards [0, 0.1, 1, 0.5, 0.1]; sampled tokens of their contexts; loss = -advantage.
    advantages = [-0.817438, -0.577015, 1.586791, 0.384677, -0.577015]
    tokens = [[3, 4], [5], [3, 3, 2], [4], [3, 2]]
    sequence = torch.tensor([s for s, rows in enumerate(tokens) for _ in rows])
    mask = torch.tensor([[t < count for t in range(5)] for rows in tokens for count in rows])
    loss = -torch.tensor(advantages)[sequence][:, None].expand_as(mask)
    assert int(mask.sum()) == 29 and len(mask) == 9
    for kind, expected in (
        (Aggregation.TOKEN_MEAN, -0.0945111),
        (Aggregation.ROW_MEAN, -0.1976811),
        (Aggregation.SEQ_MEAN_TOKEN_MEAN, 0.0),
    ):
        assert float((weights(mask, sequence, kind) * loss).sum()) == pytest.approx(expected, abs=1e-6)


def test_forms_that_do_not_fit_are_refused() -> None:
    with pytest.raises(AlgorithmError, match="do not fit together"):
        denominators(MASK, torch.tensor([0]))
    with pytest.raises(AlgorithmError, match="do not fit together"):
        denominators(MASK.float(), torch.tensor([0, 1]))
    with pytest.raises(AlgorithmError, match="norm_length"):
        token_weights(
            MASK,
            torch.tensor([0, 1]),
            Aggregation.SEQ_MEAN_TOKEN_SUM_NORM,
            denominators=denominators(MASK, torch.tensor([0, 1])),
        )
