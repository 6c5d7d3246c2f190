"""The store: one code on two databases, migrated by itself, faults in words, and a past that nobody rewrites."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, event, text

from shareasm.desk import read_desk
from shareasm.errors import ConfigError, DatabaseNewer, DiskFull, PlanError, StoreError
from shareasm.model import Limits
from shareasm.publish import reconcile, recover, run_lane
from shareasm.store import Store, audit, engine, open_store
from shareasm.store.engine import EPOCH, Database, micros, moment, storable
from shareasm.store.migrations import upgrade
from shareasm.store.tables import metadata
from shareasm.store.workers import Worker
from shareasm.worker import Worker as RunningWorker
from tests.desks import PRACTICE, DeskFolder
from tests.servers import ROOT
from tests.servers.postgres import Postgres
from tests.stores import (
    CAMPAIGN,
    DAY,
    FOLDER,
    MINUTE,
    SECOND,
    TIMINGS,
    HeldClock,
    a_lane,
    a_post,
    a_store,
    empty_store,
    on_the_network,
    planned,
)
from tests.test_archives import lines_of, x_page, x_post, x_user


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with empty_store(request.param, request, tmp_path) as store:
        yield store


# ── Tables and migrations ────────────────────────────────────────────────────────────────────────────────────────────


def schema(database: Database) -> set[tuple[Any, ...]]:
    """Return what the database itself says of its tables, columns, constraints and indexes."""
    queries = (
        ["SELECT type, name, tbl_name, sql FROM sqlite_master WHERE type <> 'trigger'"]
        if database.is_sqlite
        else [
            "SELECT table_name, column_name, data_type, is_nullable, column_default, is_identity "
            "FROM information_schema.columns WHERE table_schema = 'public'",
            "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
            "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace",
        ]
    )
    with database.read() as connection:
        found = [tuple(row) for query in queries for row in connection.execute(text(query))]
    one_form = [tuple(" ".join(str(v).replace('"', "").split()) for v in row) for row in found]
    return {row for row in one_form if not any("alembic_version" in value for value in row)}


def columns_sorted(rows: set[tuple[str, ...]]) -> set[tuple[Any, ...]]:
    """Return the rows with SQLite's CREATE TABLE as the set of its lines, whose order may differ."""
    return {
        (*row[:-1], frozenset(p.removesuffix("WITHOUT ROWID").strip(" ()") for p in row[-1].split(","))) for row in rows
    }


def test_the_migrated_tables_are_those_of_the_code(
    database_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    migrated = Database(database_url)
    upgrade(migrated)
    other = f"sqlite:///{tmp_path / 'other.db'}"
    if not migrated.is_sqlite:
        server: Postgres = request.getfixturevalue("postgres")
        other = server.fresh_database()
    made = Database(other)
    metadata.create_all(made.engine)
    assert columns_sorted(schema(migrated)) == columns_sorted(schema(made))
    migrated.close()
    made.close()


def test_bringing_the_tables_up_to_date_twice_changes_nothing(database_url: str) -> None:
    database = Database(database_url)
    assert upgrade(database) == ["0001"]
    before = schema(database)
    assert upgrade(database) == []
    assert schema(database) == before
    database.close()


def test_many_processes_may_open_a_fresh_database_at_once(database_url: str) -> None:
    code = "import sys; from shareasm.store import open_store; open_store(sys.argv[1]).close()"
    command = [sys.executable, "-W", "error", "-c", code, database_url]
    started = [
        subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)  # noqa: S603 - our own program
        for _ in range(4)
    ]
    assert [(child.communicate(timeout=60)[1], child.returncode) for child in started] == [("", 0)] * 4


def test_a_database_of_a_newer_desk_is_refused_in_words_and_left_alone(database_url: str, tmp_path: Path) -> None:
    store = a_store(database_url)
    with store.database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0999'"))
    store.close()
    with pytest.raises(DatabaseNewer, match="newer shareasm"):
        open_store(database_url)
    desk = DeskFolder(tmp_path / "desk").desk_toml("", database_url)
    assert desk.call("status").refusal == (
        "error: This database was written by a newer shareasm (its tables are at 0999). "
        "Install that version again, or restore a backup made with this one."
    )


# ── Values ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_moment_comes_back_exactly(at: datetime) -> None:
    assert moment(micros(at)) == at


def test_a_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        micros(datetime(2015, 6, 25, 12))  # noqa: DTZ001


@given(st.text(st.characters(codec=None)))
def test_any_text_becomes_one_that_both_databases_take(words: str) -> None:
    kept = storable(words)
    kept.encode()
    assert "\x00" not in kept
    assert storable(kept) is kept


def test_moments_and_words_are_the_same_on_both_databases(store: Store) -> None:
    at = EPOCH - timedelta(microseconds=1)
    store.workers.note("odd", "a\x00b\ud800 – “ok” 😀", at)
    assert store.workers.notes() == [(at, "odd", "ab� – “ok” 😀")]


def test_one_reading_transaction_sees_one_picture(store: Store) -> None:
    with store.database.read() as connection:
        before = connection.execute(text("SELECT count(*) FROM events")).scalar()
        store.workers.note("later", "written beside the reader", DAY)
        assert connection.execute(text("SELECT count(*) FROM events")).scalar() == before == 0
    assert len(store.workers.notes()) == 1


def test_a_reader_writes_nothing(store: Store) -> None:
    with pytest.raises(StoreError, match="may not be written"), store.database.read() as connection:
        connection.execute(text("DELETE FROM events"))


def test_what_workers_keep_is_kept_once_by_whoever_comes_last(store: Store) -> None:
    for text_limit in (300, 500):
        store.workers.keep_limits("first", Limits("graphemes", text_limit), DAY)
        store.workers.keep_ready("c/p/first/1", 0, {"id": text_limit}, DAY)
        store.queue.close("first", DAY + text_limit * SECOND, "wait")
    assert store.workers.limits() == {"first": Limits("graphemes", 500)}
    assert store.workers.ready("c/p/first/1", since=DAY) == {0: {"id": 500}}
    assert store.workers.ready("c/p/first/1", since=DAY + SECOND) == store.workers.ready("other", since=DAY) == {}
    assert store.workers.closed(DAY) == {"first": (DAY + 500 * SECOND, "wait")}


def test_a_heartbeat_is_alive_for_ten_seconds(store: Store) -> None:
    worker = Worker("w", "boot", 1, "then")
    store.workers.beat(worker, world=DAY, desk_now=DAY, rehearsal=False)
    store.workers.beat(worker, world=DAY + SECOND, desk_now=DAY, rehearsal=False)
    assert store.workers.pulse(DAY + 10 * SECOND).alive
    assert not store.workers.pulse(DAY + 12 * SECOND).alive
    store.workers.leave(worker)
    assert store.workers.all() == []


def test_a_campaign_is_found_by_folder_or_name_and_an_unknown_one_names_those_there_are(store: Store) -> None:
    assert store.campaigns.get(FOLDER) == store.campaigns.get(CAMPAIGN.name.upper()) == CAMPAIGN
    with pytest.raises(PlanError, match=f"Known are {FOLDER}"):
        store.campaigns.get("elsewhere")


# ── The audit chain ──────────────────────────────────────────────────────────────────────────────────────────────────


def audited(store: Store) -> None:
    for n in range(5):
        store.switches.pause("account", f"a{n}", by="Ann", role="approver", reason=f"reason {n} \ud800", at=DAY)


def past_the_trigger(store: Store, statement: str) -> None:
    with store.database.write() as connection:
        if store.database.is_sqlite:
            for verb in ("update", "delete"):
                connection.execute(text(f"DROP TRIGGER IF EXISTS audit_no_{verb}"))
        else:
            connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text(statement))


@pytest.mark.parametrize(
    "change",
    ["person = 'Ben'", "role = 'admin'", "action = 'resume'", "object = 'all:'", "why = 'reason 2 ?'", "at = at + 1",
     "before = 'x'", "after = 'x'", "hash = prev_hash", "prev_hash = hash"],
)  # fmt: skip
def test_a_row_of_the_audit_that_was_changed_is_named(store: Store, change: str) -> None:
    audited(store)
    assert audit.first_broken(store.database) is None
    with store.database.read() as connection:
        third = connection.execute(text("SELECT id FROM audit ORDER BY id LIMIT 1 OFFSET 2")).scalar_one()
    past_the_trigger(store, f"UPDATE audit SET {change} WHERE id = {third}")  # noqa: S608
    assert audit.first_broken(store.database) == third


def test_a_row_of_the_audit_that_was_taken_out_is_missed(store: Store) -> None:
    audited(store)
    past_the_trigger(store, "DELETE FROM audit WHERE object = 'account:a2'")
    with store.database.read() as connection:
        behind = connection.execute(text("SELECT id FROM audit WHERE object = 'account:a3'")).scalar_one()
    assert audit.first_broken(store.database) == behind


# ── Faults in words ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_that_is_no_database_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "desk.db").write_bytes(b"these are my holiday pictures " * 100)
    with pytest.raises(StoreError, match="is not a whole database"):
        open_store(f"sqlite:///{tmp_path / 'desk.db'}")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        open_store(f"sqlite:///{tmp_path / 'nowhere' / 'desk.db'}")


@pytest.mark.parametrize("url", ["desk.db", "mysql://host/desk", "oracle://host/desk", "sqlite+x:///desk.db"])
def test_an_address_of_another_kind_of_database_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        Database(url)


def test_a_postgresql_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not answer"):
        open_store(f"postgresql://postgres@/desk?host={tmp_path}")


def test_a_database_that_another_program_holds_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BUSY_MS", 50)
    store = a_store(f"sqlite:///{tmp_path / 'desk.db'}")
    holder = sqlite3.connect(tmp_path / "desk.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="Another program holds"):
        store.workers.note("x", "y", DAY)
    assert store.workers.notes() == []
    holder.execute("ROLLBACK")
    holder.close()
    store.close()


# ── A full disk ──────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def full_disk(pages: int = 1) -> Iterator[None]:
    """Let SQLite's files grow no further than they are (or than so many pages): its own real SQLITE_FULL.

    It works everywhere, as root and as anybody, where a small file system of its own does not.
    """

    def limit(dbapi: Any, _record: Any) -> None:
        dbapi.execute(f"PRAGMA max_page_count={pages}")

    event.listen(Engine, "connect", limit)
    try:
        yield
    finally:
        event.remove(Engine, "connect", limit)


@pytest.fixture
def desk(tmp_path: Path) -> DeskFolder:
    made = DeskFolder(tmp_path / "desk").desk_toml(f'{PRACTICE}\n[people]\nann = "approver"\n').campaign()
    made.good("plan", "sync")
    return made


def assert_refused_as_full(desk: DeskFolder, *command: str) -> None:
    assert desk.call(*command).refusal == (
        f"error: The disk that holds {desk.folder / 'desk.db'} is full; nothing of this step was kept. "
        "Free some space and start it again: what was kept before is whole."
    )


def test_a_sync_on_a_full_disk_is_told_and_done_later(desk: DeskFolder) -> None:
    for n in range(30):
        desk.post(f"p{n}", datetime.now(UTC) + timedelta(days=1), f"Number {n} #shareASM " + "long " * 90)
    with full_disk():
        assert_refused_as_full(desk, "plan", "sync")
    with desk.store() as store:
        assert store.posts.all() == []
    desk.good("plan", "sync")
    assert len(desk.good("plan", "list", "--json").json) == 30


def test_an_import_on_a_full_disk_is_told_and_completed_later(desk: DeskFolder, tmp_path: Path) -> None:
    file = tmp_path / "old.jsonl"
    users = [x_user(str(n)) for n in range(100)]
    pages = [x_page(*(x_post(str(p * 100 + n), author_id=str(n)) for n in range(100)), users=users) for p in range(30)]
    file.write_bytes(lines_of(*pages))
    size = (desk.folder / "desk.db").stat().st_size // 4096
    with full_disk(size + 150):
        assert_refused_as_full(desk, "import", str(file), "--campaign", "day")
    with desk.store() as store, store.database.read() as connection:
        before = connection.execute(text("SELECT count(*) FROM mentions")).scalar_one()
    assert 0 < before < 3_000
    assert before % 500 == 0  # whole batches of the reader, no half ones
    done = json.loads(desk.good("import", str(file), "--campaign", "day", "--json").out)
    assert (done["read"], done["new"], done["known"]) == (3_000, 3_000 - before, before)
    assert desk.call("db", "rebuild").code == 0
    again = json.loads(desk.good("import", str(file), "--campaign", "day", "--json").out)
    assert (again["new"], again["changed"]) == (0, 0)


def test_a_worker_on_a_full_disk_sends_nothing_that_it_could_not_write_down_and_says_so(
    desk: DeskFolder, caplog: pytest.LogCaptureFixture
) -> None:
    clock = HeldClock(datetime.now(UTC))
    for n in range(8):
        desk.post(f"p{n}", clock.at - SECOND, f"Number {n} #shareASM " + "long " * 80)
    desk.good("plan", "sync")
    desk.good("plan", "approve", "--all", "--by", "ann")

    def work() -> dict[str, int]:
        with desk.store() as store:
            worker = RunningWorker(read_desk(desk.folder), store, clock, TIMINGS)
            worker.open()
            for step in (worker.recover, worker.tick, worker.work_through):
                worker.guarded(step)()
            return store.queue.counts()

    with full_disk():
        work()
    assert "is full; nothing of this step was kept" in caplog.text
    assert len(on_the_network(desk.folder)) < 8
    for _ in range(5):
        clock.go(MINUTE + SECOND)
        counts = work()
    assert counts == {"published": 8}
    told = on_the_network(desk.folder)
    assert len(told) == len(set(told)) == 8


def test_an_outcome_that_could_not_be_written_is_found_by_looking(tmp_path: Path) -> None:
    url, clock = f"sqlite:///{tmp_path / 'desk.db'}", HeldClock()
    store = a_store(url)
    planned(store, *(a_post(f"p{n}", f"Number {n} " + "long " * 80) for n in range(8)))
    store.close()
    with full_disk():
        store = a_store(url)
        for _ in range(10):
            clock.go(TIMINGS.lease + SECOND)
            with pytest.raises(DiskFull):
                recover(a_lane(store, tmp_path, clock), [])
                run_lane(a_lane(store, tmp_path, clock), lambda: False)
                raise DiskFull
        store.close()
    store = a_store(url)
    lane = a_lane(store, tmp_path, clock)
    for _ in range(8):
        clock.go(MINUTE)
        recover(lane, [])
        while reconcile(lane):
            pass
        run_lane(lane, lambda: False)
    told = on_the_network(tmp_path)
    out = {d.frozen.text for d in store.queue.all() if d.state == "published"}
    assert len(told) == len(set(told))
    assert set(told) == out
    store.close()
