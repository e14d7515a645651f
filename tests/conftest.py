"""Fixtures that every test may use."""

from __future__ import annotations

import copy
import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tiny_model import write_tiny_model

if TYPE_CHECKING:
    from askesis.policy.loading import Policy
    from cluster.postgres import PostgresServer


# The same examples at every run, so that a failure is a failure of the code. HYPOTHESIS_PROFILE=search looks further.
settings.register_profile("suite", derandomize=True, max_examples=50)
settings.register_profile("search", max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))


def pytest_configure() -> None:
    """What tests import is looked through for garbage neither while it is imported nor later: that takes a while."""
    gc.disable()


def pytest_collection_finish() -> None:
    """See :func:`pytest_configure`."""
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
    gc.enable()


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def random_policy() -> Callable[..., Policy]:
    """``random_policy("Qwen3", **configuration)``: a policy without a tokenizer, its weights far from flat."""
    from random_policy import random_policy as make

    return make


@pytest.fixture(scope="session")
def fresh_tiny(tiny_folder: Path) -> Callable[[], Policy]:
    """``fresh_tiny()``: the tiny policy as it was loaded. A copy takes a sixth of the time that loading does."""
    from askesis.policy.loading import load_policy

    loaded = load_policy(str(tiny_folder), device="cpu")
    return lambda: copy.deepcopy(loaded)


@pytest.fixture
def tiny(fresh_tiny: Callable[[], Policy]) -> Policy:
    return fresh_tiny()


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    """A running PostgreSQL server with a database ``empty`` that holds an empty store."""
    pytest.importorskip("psycopg", reason="a store at a URL needs psycopg")
    from askesis.store import Store
    from cluster.postgres import ServerMissing, running_server

    try:
        with running_server() as started:
            started.sql("CREATE DATABASE empty")
            Store.open(started.url("empty")).close()
            yield started
    except ServerMissing as error:
        pytest.skip(str(error))
