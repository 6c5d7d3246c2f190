"""Migrations: the database is brought up to date by itself, at start, and never backwards."""

from __future__ import annotations

from pathlib import Path

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from shareasm.errors import DatabaseNewer
from shareasm.store.engine import Database
from shareasm.store.tables import metadata

_MIGRATION_LOCK = 7_308_331


def upgrade(database: Database) -> list[str]:
    """Bring the tables up to date in one transaction and return the revisions that were applied.

    Several processes may start at once: one migrates, the others find it done. Raise DatabaseNewer when the database
    was written by a newer shareasm.
    """
    script = _script()
    if current(database) == script.get_current_head():
        return []
    applied: list[str] = []
    with database.write() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
        _migrate(connection, script, applied)
    return applied


def current(database: Database) -> str | None:
    """Return the database's revision, None when it is empty. Raise DatabaseNewer when this program does not know it."""
    with database.read() as connection:
        revision = MigrationContext.configure(connection).get_current_revision()
    known = {step.revision for step in _script().walk_revisions()}
    if revision is not None and revision not in known:
        raise DatabaseNewer(
            f"This database was written by a newer shareasm (its tables are at {revision}).",
            "Install that version again, or restore a backup made with this one.",
        )
    return revision


def _migrate(connection: Connection, script: ScriptDirectory, applied: list[str]) -> None:
    config = Config()

    def steps(revision, _context):
        found = script._upgrade_revs("head", revision)
        applied.extend(step.revision.revision for step in found)
        return found

    with EnvironmentContext(config, script, fn=steps) as environment:
        environment.configure(
            connection=connection, target_metadata=metadata, transactional_ddl=True, transaction_per_migration=False
        )
        environment.run_migrations()


def _script() -> ScriptDirectory:
    return ScriptDirectory(str(Path(__file__).parent), version_locations=[str(Path(__file__).parent / "versions")])
