"""Store: the only room that speaks SQL. SQLite in one file, or PostgreSQL when several machines share the desk."""

from __future__ import annotations

from shareasm.store.campaigns import Campaigns
from shareasm.store.conversation import Conversation
from shareasm.store.engine import Database
from shareasm.store.figures import Figures
from shareasm.store.migrations import upgrade
from shareasm.store.posts import Posts
from shareasm.store.queue import Queue
from shareasm.store.sources import Sources
from shareasm.store.switches import Switches
from shareasm.store.workers import Workers


class Store:
    """The desk's database: one attribute per thing that is kept."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.campaigns = Campaigns(database)
        self.posts = Posts(database)
        self.queue = Queue(database)
        self.switches = Switches(database)
        self.sources = Sources(database)
        self.conversation = Conversation(database)
        self.figures = Figures(database)
        self.workers = Workers(database)

    def close(self) -> None:
        """Close every connection."""
        self.database.close()


def open_store(url: str) -> Store:
    """Open the database at this address, bring its tables up to date, and return the store.

    Raise DatabaseNewer when a newer shareasm wrote it, StoreError when it cannot be opened.
    """
    database = Database(url)
    try:
        upgrade(database)
    except BaseException:
        database.close()
        raise
    return Store(database)
