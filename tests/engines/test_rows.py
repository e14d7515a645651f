"""Sampling state: rows join, are written to, leave."""

from __future__ import annotations

import torch

from askesis.engines import Request, Sampling
from askesis.engines.rows import Rows
from askesis.engines.sampling import Drawn
from askesis.streams import generator

CPU = torch.device("cpu")


def request(seed: int, length: int, max_tokens: int, *stop_ids: int) -> Request:
    return Request(prefix=(7,) * length, sampling=Sampling(max_tokens=max_tokens), stop_ids=stop_ids, seed=seed)


def drawn(*tokens: int) -> Drawn:
    ids = torch.tensor(tokens)
    return Drawn(ids, -ids.float(), torch.ones_like(ids, dtype=torch.bool))


def test_rows_end_at_a_stop_id_or_at_their_limit() -> None:
    rows = Rows(CPU)
    rows.admit([request(0, 3, 2), request(1, 5, 9, 4, 6), request(2, 1, 9, 5)])
    assert rows.record(drawn(6, 4, 8)).tolist() == [False, True, False]
    assert rows.position().tolist() == [3, 5, 1]
    assert rows.record(drawn(6, 9, 5)).tolist() == [True, False, True]
    assert rows.answers([2, 0]) == [([8, 5], [-8.0, -5.0]), ([6, 6], [-6.0, -6.0])]


def test_rows_that_join_later_keep_their_own_count() -> None:
    rows = Rows(CPU)
    rows.admit([request(0, 3, 2)])
    rows.record(drawn(6))
    rows.admit([request(1, 4, 5, 1, 2, 3)])
    assert len(rows) == 2
    assert rows.record(drawn(8, 9)).tolist() == [True, False]
    assert rows.answers([0, 1]) == [([6, 8], [-6.0, -8.0]), ([9], [-9.0])]
    rows.keep([1])
    assert rows.record(drawn(2)).tolist() == [True]
    assert rows.answers([0]) == [([9, 2], [-9.0, -2.0])]
    assert rows.last_B.tolist() == [2] and rows.position().tolist() == [5]


def test_random_numbers_are_the_requests_own() -> None:
    rows = Rows(CPU)
    rows.admit([request(11, 3, 4), request(12, 3, 2)])
    expected = [generator(seed, "tokens").random(4) for seed in (11, 12)]
    assert rows.uniform().tolist() == [expected[0][0], expected[1][0]]
    rows.record(drawn(5, 5))
    assert rows.uniform().tolist() == [expected[0][1], expected[1][1]]
    rows.keep([1])
    assert rows.uniform().tolist() == [expected[1][1]]


def test_sampling_parameters_follow_their_rows() -> None:
    rows = Rows(CPU)
    rows.admit([request(0, 1, 1)])
    assert not (rows.controls.heats or rows.controls.truncates or rows.controls.chooses)
    hot = Request(prefix=(1,), sampling=Sampling(temperature=0.5, top_k=3), stop_ids=(), seed=0)
    rows.admit([hot, Request(prefix=(1,), sampling=Sampling(temperature=0.0), stop_ids=(), seed=0)])
    assert rows.controls.heats and rows.controls.truncates and rows.controls.chooses
    rows.keep([2, 1])
    assert rows.controls.temperature_B.tolist() == [1.0, 0.5]
    assert rows.controls.greedy_B.tolist() == [True, False] and rows.controls.top_k_B.tolist() == [0, 3]
