"""Engine: one way to open SQLite and PostgreSQL, and the errors of both in our words.

SQLite runs with WAL and BEGIN IMMEDIATE: a read that later upgrades to a write is refused at once, whatever the busy
time-out says (420 of 480 claims, measured), so every writing transaction takes its lock first. PostgreSQL runs READ
COMMITTED with its own clock as the truth for leases.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import BigInteger, Connection, Engine, Executable, Table, create_engine, event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Dialect, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError, OperationalError
from sqlalchemy.types import TypeDecorator

from shareasm.errors import ConfigError, DiskFull, StoreError
from shareasm.model import utc

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

BUSY_MS = 10_000
_CONVERSATION_LOCK = 7_308_333


def micros(moment: datetime) -> int:
    """Return the moment as whole microseconds since 1970, the form it has in every table."""
    passed = (moment if moment.tzinfo is UTC else utc(moment)) - EPOCH
    return (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds


def moment(value: int) -> datetime:
    """Return the moment that `micros` wrote."""
    return EPOCH + value * MICROSECOND


class Moment(TypeDecorator[datetime]):
    """A UTC moment, kept as whole microseconds: exact, ordered, equal on both databases, and no zone to lose."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Return the microseconds. A naive moment is refused."""
        return None if value is None else micros(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """Return the aware moment."""
        return None if value is None else moment(value)


class Database:
    """Two engines on one database: `write()` takes the write lock first, `read()` never waits for it."""

    def __init__(self, url: str) -> None:
        self.url = _parsed(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._writer = _sqlite_engine(self.url) if self.is_sqlite else _postgres_engine(self.url)
        self._reader = (
            _sqlite_engine(self.url, read_only=True)
            if self.is_sqlite
            else self._writer.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        )

    @property
    def file(self) -> Path | None:
        """Return the database's file; None for PostgreSQL."""
        return Path(self.url.database) if self.is_sqlite and self.url.database else None

    @property
    def engine(self) -> Engine:
        """Return the writing engine, for migrations."""
        return self._writer

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open one writing transaction: everything in it is kept, or nothing."""
        with _in_our_words(self.url), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open one reading transaction: a consistent picture that no writer waits for."""
        with _in_our_words(self.url), self._reader.connect() as connection:
            yield connection

    def close(self) -> None:
        """Close every connection."""
        self._writer.dispose()
        self._reader.dispose()

    def clock_offset(self) -> timedelta:
        """Return how far the database's clock is ahead of this machine's: zero for SQLite, which has none."""
        if self.is_sqlite:
            return timedelta(0)
        before = datetime.now(UTC)
        with self.read() as connection:
            theirs = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        after = datetime.now(UTC)
        return theirs - (before + (after - before) / 2)


def run(connection: Connection, statement: Any, rows: Sequence[tuple[Any, ...]]) -> None:
    """Run a compiled statement over plain tuples.

    0.98 times the speed of the bare driver, against 0.61 for SQLAlchemy's dictionaries (measured): values must be
    what the driver takes, so moments go in as `micros`.
    """
    if rows:
        connection.exec_driver_sql(statement, list(rows))


@cache
def insert_sql(table: Table, columns: tuple[str, ...], is_sqlite: bool, on_conflict: str = "") -> str:
    """Return an INSERT of these columns in the driver's own parameter style, with an optional ON CONFLICT clause.

    The clause is ours, never a user's text; names come from the tables.
    """
    mark = "?" if is_sqlite else "%s"
    names = ", ".join(f'"{column}"' for column in columns)
    marks = ", ".join(mark for _ in columns)
    return f'INSERT INTO "{table.name}" ({names}) VALUES ({marks}) {on_conflict}'.strip()  # noqa: S608 - no foreign text


def for_update(statement: Any, connection: Connection) -> Any:
    """Lock the picked row against other workers: PostgreSQL skips what is locked, SQLite holds one lock for all."""
    return statement.with_for_update(skip_locked=True) if connection.dialect.name == "postgresql" else statement


def without_time_limit(connection: Connection) -> None:
    """Let this one transaction take as long as it needs: a migration, a count of everything."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))


def hold_conversation(connection: Connection, campaign_id: int) -> None:
    """Let one transaction at a time change a campaign's mentions and rollups. SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(
            text("SELECT pg_advisory_xact_lock(:lock, :campaign)"),
            {"lock": _CONVERSATION_LOCK, "campaign": campaign_id},
        )


def storable(words: str) -> str:
    """Return text that both databases take: without NUL, and with half a character shown as “�”.

    One odd character, which any stranger may post, must not cost a page.
    """
    if "\x00" in words:
        words = words.replace("\x00", "")
    if words.isascii():
        return words
    try:
        words.encode()
    except UnicodeEncodeError:  # two halves of a pair, each escaped by itself in somebody's JSON, are one character
        return words.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return words


def upsert(connection: Connection, table: Table) -> Any:
    """Return an INSERT that knows ON CONFLICT, for the connection's database."""
    return (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table)


def changed(connection: Connection, statement: Executable) -> int:
    """Run an UPDATE or DELETE and return how many rows it changed."""
    return connection.execute(statement).rowcount  # pyright: ignore[reportAttributeAccessIssue]


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
        parsed.get_dialect()
    except (ArgumentError, NoSuchModuleError) as error:
        raise ConfigError(
            "desk.toml: `database` is not an address that the desk can open.",
            'Write "sqlite:///desk.db" or "postgresql+psycopg://name@host/database".',
        ) from error
    if parsed.get_backend_name() == "postgresql" and parsed.drivername != "postgresql+psycopg":
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() not in {"sqlite", "postgresql"}:
        raise ConfigError(
            f"The desk does not keep its data in {parsed.get_backend_name()}.", "Use SQLite or PostgreSQL."
        )
    return parsed


def _sqlite_engine(url: URL, *, read_only: bool = False) -> Engine:
    engine = create_engine(url, pool_size=8, max_overflow=8, connect_args={"timeout": BUSY_MS / 1000})

    @event.listens_for(engine, "connect")
    def _connect(dbapi: Any, _record: Any) -> None:
        dbapi.isolation_level = None  # the driver must not open transactions behind our back
        dbapi.execute(f"PRAGMA busy_timeout={BUSY_MS}")
        if not read_only:
            dbapi.execute("PRAGMA journal_mode=WAL")
        dbapi.execute("PRAGMA foreign_keys=ON")
        dbapi.execute("PRAGMA synchronous=FULL")
        if read_only:
            dbapi.execute("PRAGMA query_only=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


def _postgres_engine(url: URL) -> Engine:
    limits = "-c statement_timeout=30000 -c idle_in_transaction_session_timeout=15000"
    options = f"{limits} -c synchronous_commit=on -c timezone=UTC"
    return create_engine(
        url, pool_size=8, max_overflow=8, pool_pre_ping=True, connect_args={"options": options, "connect_timeout": 10}
    )


@contextmanager
def _in_our_words(url: URL) -> Iterator[None]:
    """Translate the faults of a database into sentences; a mistake of ours stays what it is."""
    try:
        yield
    except IntegrityError:  # its words quote foreign values, and its catcher knows what it means
        raise
    except DBAPIError as error:
        told = _told(error, url)
        if told is None:
            raise
        raise told from error


def _told(error: DBAPIError, url: URL) -> StoreError | None:
    words = str(error.orig).lower()
    if url.get_backend_name() == "postgresql":
        return _told_by_postgresql(error, url)
    place = url.database
    if "disk is full" in words:
        return _disk_full(str(place))
    if "unable to open database" in words:
        return StoreError(f"The database {place} cannot be opened.", "Check that its folder exists and may be written.")
    if "readonly" in words:
        return StoreError(f"The database {place} may not be written.", "Check who owns the file and its folder.")
    if "not a database" in words or "malformed" in words:
        return StoreError(f"{place} is not a whole database.", "Restore the last backup with `shareasm db restore`.")
    if "locked" in words:
        return StoreError(f"Another program holds {place} for too long.", "Close it and try again.")
    if "disk i/o error" in words:
        return StoreError(f"The disk that holds {place} fails.", "Check the disk, then start it again.")
    return None


def _told_by_postgresql(error: DBAPIError, url: URL) -> StoreError | None:
    place = f"{url.host or url.query.get('host') or 'the local server'}/{url.database}"
    code = str(getattr(error.orig, "sqlstate", None) or "")
    if code == "53100":
        return _disk_full(place)
    if code in {"25006", "42501"}:
        return StoreError(f"The database {place} may not be written by this login.", "Grant it the desk's tables.")
    if not isinstance(error, OperationalError) and not error.connection_invalidated:
        return None
    lines = str(error.orig).strip().splitlines() or ["no answer"]
    reason = (lines[0] if code else lines[-1]).strip().rstrip(".?")
    return StoreError(
        f"PostgreSQL at {place} does not answer: {reason}.",
        "Check that it runs and that the address in desk.toml is right.",
    )


def _disk_full(place: str) -> DiskFull:
    return DiskFull(
        f"The disk that holds {place} is full; nothing of this step was kept.",
        "Free some space and start it again: what was kept before is whole.",
    )
