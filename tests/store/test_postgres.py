"""What only a server can do: many writers, going away and coming back, keeping a password to itself."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from askesis.errors import StoreBusy, StoreCorrupt, StoreError
from askesis.store import Group, RunRecord, Store, StoreUnreachable, query
from askesis.trace import Verdict, VerdictStatus
from cluster.postgres import PASSWORD, PostgresServer, ServerMissing, running_server

Make = Callable[..., Group]


@pytest.fixture
def shared(clean_url: str, run: RunRecord) -> str:
    """The URL of an empty store with one run."""
    with Store.open(clean_url) as store:
        store.add_run(run)
    return clean_url


def write(number: int, url: str, group: Make, groups: int, claims: list[tuple[str, int]]) -> None:
    """Append groups of our own and groups that everybody appends; claim what is there."""
    with Store.open(url, busy_timeout_s=60) as store:
        for i in range(groups):
            store.append_group(group(100 * number + i, members=2))
            store.append_group(group(i, members=1))
            step = 1000 * number + i
            claims.extend((name, step) for name in store.claim("R", step=step, count=2))


def start_writers(
    url: str, group: Make, groups: int, numbers: range
) -> tuple[list[Future[None]], list[tuple[str, int]]]:
    """Writers at work, and the list of what they claim."""
    claims: list[tuple[str, int]] = []
    pool = ThreadPoolExecutor(len(numbers))
    writers = [pool.submit(write, number, url, group, groups, claims) for number in numbers]
    pool.shutdown(wait=False)
    return writers, claims


def check_claims(url: str, claims: list[tuple[str, int]], stored: int) -> None:
    with Store.open(url, read_only=True) as store:
        assert len(dict(claims)) == len(claims)  # nobody shares a group
        assert dict(claims) == store.consumed("R")  # and what was told is what is stored
        assert len({g.group_id for g in store.groups("R")}) == stored
        report = store.verify()
        assert report.ok, report.findings[:3]


def test_four_writers_append_and_claim_each_group_once(shared: str, group: Make) -> None:
    writers, claims = start_writers(shared, group, 4, range(1, 5))
    for writer in writers:
        writer.result(timeout=120)
    assert len(claims) >= 16
    check_claims(shared, claims, 4 * 4 + 4)


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """A server that the test may kill."""
    try:
        with running_server() as started:
            started.sql("CREATE DATABASE store")
            yield started
    except ServerMissing as error:
        pytest.skip(str(error))


def test_a_killed_server_loses_nothing_and_doubles_nothing(
    own_server: PostgresServer, group: Make, run: RunRecord
) -> None:
    """The writers wait for it, and never hear of it."""
    kills = int(os.environ.get("ASKESIS_TEST_KILLS", "1"))
    url = own_server.url("store")
    with Store.open(url) as store:
        store.add_run(run)
    groups = 4 + 4 * kills
    writers, claims = start_writers(url, group, groups, range(1, 4))
    for number in range(kills):
        _wait_for_records(url, 40 * number + 10)
        own_server.kill()
        own_server.restart_after_kill()
    for writer in writers:
        writer.result(timeout=240)
    check_claims(url, claims, 3 * groups + groups)


def _wait_for_records(url: str, size: int) -> None:
    deadline = time.monotonic() + 60
    with Store.open(url, read_only=True, busy_timeout_s=60) as store:
        while store.head().size < size and time.monotonic() < deadline:
            time.sleep(0.01)


def test_a_server_that_stays_away_is_a_typed_error_and_the_store_comes_back(
    own_server: PostgresServer, group: Make, run: RunRecord
) -> None:
    with Store.open(own_server.url("store"), busy_timeout_s=0.3) as store:
        store.add_run(run)
        store.append_group(group(1))
        head = store.head()
        own_server.stop("immediate")
        started = time.monotonic()
        for call in (store.head, lambda: store.append_group(group(2))):
            with pytest.raises(StoreUnreachable, match=r"0\.3 s were waited") as error:
                call()
            assert error.value.where == store.where and "connects again" in (error.value.next_step or "")
        assert time.monotonic() - started < 20
        own_server.start()
        store._database._outage_s = 30  # type: ignore[attr-defined]
        assert store.head() == head
        store.append_group(group(2))
        assert store.verify().ok


@pytest.mark.opt_in
def test_an_outage_is_waited_for_longer_than_a_server_that_never_answered(
    own_server: PostgresServer, group: Make, run: RunRecord, caplog: pytest.LogCaptureFixture
) -> None:
    with Store.open(own_server.url("store"), busy_timeout_s=0.2, outage_s=60) as store:
        store.add_run(run)
        own_server.stop("immediate")
        starts = threading.Timer(1.0, own_server.start)
        starts.start()
        began = time.monotonic()
        store.append_group(group(1))
        assert 0.5 < time.monotonic() - began < 30
        starts.join()
        assert len(list(store.groups("R"))) == 1
    waits, again = caplog.messages
    assert "/store is not there (" in waits and "waiting for up to 60 s" in waits
    assert "answers again, after" in again and PASSWORD not in waits + again
    own_server.stop("immediate")
    began = time.monotonic()
    with pytest.raises(StoreUnreachable):
        Store.open(own_server.url("store"), busy_timeout_s=0.2, outage_s=60)
    assert time.monotonic() - began < 20
    own_server.start()


def test_a_commit_whose_answer_was_lost_is_not_done_twice(shared: str, server: PostgresServer, group: Make) -> None:
    """The connection is cut between the commit and its answer, for every kind of write."""
    verdict = Verdict(status=VerdictStatus.OK, evaluator="late/1", rewards={"r": (1.0, 1.0)})
    with Store.open(shared) as store:
        writes: list[Callable[[], object]] = [
            lambda: store.append_group(group(1, members=1)),
            lambda: store.append_group(group(2, members=1)),
            lambda: store.append_verdict("R/train/000001/000/0", verdict),
            lambda: store.claim("R", step=5, count=1),
            lambda: store.log_metrics("R", 1, {"loss": 0.5}),
        ]
        answers = [_lose_the_answer(store, server, write) for write in writes]
        assert answers == [None, None, 1, ["R/train/000001/000"], None]
        assert store.consumed("R") == {"R/train/000001/000": 5} and len(store.verdicts("R/train/000001/000/0")) == 2
        assert store.head().size == 1 + 4 + 4 + 1 + 1 and store.verify().ok


def _lose_the_answer(store: Store, server: PostgresServer, write: Callable[[], object]) -> object:
    """Run ``write`` so that its first attempt is stored, and the connection gone before that is known."""
    database = store._database
    once, attempts = database._once, []  # type: ignore[attr-defined]

    def cut(work: object, begin: str) -> object:
        attempts.append(begin)
        answer = once(work, begin)
        if len(attempts) == 1:
            with database._translated():  # type: ignore[attr-defined]
                driver = database._connection.connection.driver_connection  # type: ignore[attr-defined]
                server.sql(f"SELECT pg_terminate_backend({driver.info.backend_pid})")
                driver.execute("SELECT 1")
        return answer

    database._once = cut  # type: ignore[attr-defined]
    try:
        answer = write()
    finally:
        database._once = once  # type: ignore[attr-defined]
    assert len(attempts) == 2
    return answer


def test_a_verdict_between_a_lost_answer_and_its_repetition(shared: str, group: Make) -> None:
    """Another writer's verdict came after ours: ours is still not added twice."""
    mine = Verdict(status=VerdictStatus.VOID, evaluator="mine/1")
    theirs = Verdict(status=VerdictStatus.VOID, evaluator="theirs/1")
    from askesis.store import events

    with Store.open(shared) as store:
        store.append_group(group(1, members=1))
        trace, since = "R/train/000001/000/0", list[int]()
        assert store._write(lambda c: events.append_verdict(c, trace, mine, since)) == 1
        assert store.append_verdict(trace, theirs) == 2
        assert store._write(lambda c: events.append_verdict(c, trace, mine, since)) == 1
        assert store.append_verdict(trace, mine) == 3  # said anew, it is a new verdict


def test_a_writer_waits_for_its_turn_and_is_then_told(shared: str, server: PostgresServer, group: Make) -> None:
    with Store.open(shared) as first, Store.open(shared, busy_timeout_s=0.2) as second:

        def held(connection: object) -> None:
            with pytest.raises(StoreBusy, match=r"not free after 0\.2 s"):
                second.append_group(group(1))
            assert second.head().size == 1  # reading goes on

        first._write(held)
        second.append_group(group(1))
        assert second.verify().ok


def test_one_process_drives_a_run(shared: str, server: PostgresServer) -> None:
    with Store.open(shared) as first, Store.open(shared, busy_timeout_s=0.2) as second:
        first.lock_run("R")
        first.lock_run("R")
        with pytest.raises(StoreBusy, match="another process drives the run R"):
            second.lock_run("R")
        second.lock_run("S")
        pid = first._database._connection.connection.driver_connection.info.backend_pid  # type: ignore[attr-defined]
        server.sql(f"SELECT pg_terminate_backend({pid})")
        first.head()  # a new connection takes the lock again
        with pytest.raises(StoreBusy, match="another process drives the run R"):
            second.lock_run("R")
        first.close()
        second.lock_run("R")


def test_two_processes_make_the_tables_once(server: PostgresServer) -> None:
    server.sql("CREATE DATABASE blank")
    url, errors = server.url("blank"), list[BaseException]()
    with pytest.raises(StoreError, match="there is no store here"):
        Store.open(url, create=False)
    with pytest.raises(StoreError, match="empty or has an older schema"):
        Store.open(url, read_only=True)

    def make() -> None:
        try:
            Store.open(url, busy_timeout_s=60).close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=make) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with Store.open(url, read_only=True) as store:
        assert store.head().size == 0 and store.verify().ok


@pytest.mark.parametrize(
    "statement",
    [
        "DROP INDEX ix_groups_run_id_purpose_step",
        *(
            pytest.param(statement, marks=pytest.mark.opt_in)
            for statement in (
                "ALTER TABLE runs RENAME COLUMN status TO state",
                "ALTER TABLE metrics ALTER COLUMN value TYPE real",
                "CREATE RULE nothing AS ON DELETE TO ready DO INSTEAD NOTHING",
                "ALTER TABLE nodes DROP CONSTRAINT fk_nodes_tokens",
                "ALTER TABLE nodes DISABLE TRIGGER ALL",
                "UPDATE meta SET value = 'x'",
            )
        ),
    ],
)
def test_changed_definitions_are_damage(new_url: Callable[[], str], server: PostgresServer, statement: str) -> None:
    shared = new_url()
    database = shared.rsplit("/", 1)[1]
    if "fk_nodes_tokens" in statement:
        found = "SELECT conname FROM pg_constraint WHERE contype = 'f' AND conrelid = 'nodes'::regclass LIMIT 1"
        statement = statement.replace("fk_nodes_tokens", server.sql(found, database).strip())
    server.sql(statement, database)
    with pytest.raises(StoreCorrupt, match="definitions of the tables are damaged"):
        Store.open(shared)


@pytest.mark.parametrize(
    ("statement", "record"),
    [
        ("UPDATE verdicts SET reward = 9 WHERE leaf = 4", "verdict R/train/000001/000/0#0"),
        ("UPDATE blobs SET data = data || '\\x00'::bytea", "trace R/train/000001/000/0"),
        ("UPDATE traces SET seed = 1 WHERE member_index = 1", "trace R/train/000001/000/1"),
        ("UPDATE log SET hash = sha256('x') WHERE leaf = 2", "group R/train/000001/000"),
        ("SET session_replication_role = replica; DELETE FROM tasks", "database"),
        ("DELETE FROM nodes WHERE node_index = 1", "trace R/train/000001/000/0"),
    ],
)
def test_edits_past_us_are_found(shared: str, server: PostgresServer, group: Make, statement: str, record: str) -> None:
    with Store.open(shared) as store:
        store.append_group(group(1))
        server.sql(statement, shared.rsplit("/", 1)[1])
        report = store.verify()
        assert not report.ok and record in {f.record for f in report.findings}


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM log",
        "UPDATE log_state SET size = 9",
        "SELECT 1; DELETE FROM log",
        "COPY (SELECT 1) TO '/tmp/nothing'",
        "WITH gone AS (DELETE FROM ready RETURNING leaf) SELECT * FROM gone",
        "SELECT set_config('transaction_read_only', 'off', false)",
        "SELECT nextval('nothing')",
        "nonsense",
        "",
        "SELECT '\ud800'",
    ],
)
def test_questions_change_nothing(shared: str, sql: str) -> None:
    with pytest.raises(StoreError) as error:
        query(shared, sql)
    assert PASSWORD not in str(error.value)
    assert query(shared, "SELECT run_id, status AS s FROM runs WHERE run_id LIKE '%R%'") == (
        ("run_id", "s"),
        [("R", "running")],
    )
    assert query(shared, "SELECT generate_series(1, 9)", limit=2)[1] == [(1,), (2,)]


def test_nothing_that_we_say_holds_the_password(server: PostgresServer) -> None:
    wrong = server.url("empty").replace("s3cret", "t4cret")
    cases = [server.url("nowhere"), wrong, server.url("empty", query="?nonsense=1"), server.url("empty", password=None)]
    cases += [server.url("empty").replace(str(server.port), "1"), f"postgresql://u:{PASSWORD}@127.0.0.1/empty"]
    for url in cases:
        with pytest.raises(StoreError) as error:
            Store.open(url, busy_timeout_s=0.1)
        said, seen = [str(error.value), repr(error.value)], error.value
        while seen is not None:
            said.append(str(seen))
            seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
        for text in said:
            assert not any(part in text for part in ("s3cret", "t4cret", "p@ss", "p%40ss")), text
    with Store.open(server.url("empty")) as store:
        assert store.where == f"postgresql://askesis@127.0.0.1:{server.port}/empty"


def test_the_password_may_come_from_the_environment(server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    with Store.open(server.url("empty", password=None)) as store:
        assert store.runs() == []
