"""Stores: a database with a campaign and its approved posts, lanes on the practice network, and a clock to move."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from sqlalchemy import text

from shareasm import networks
from shareasm.errors import PlanError
from shareasm.model import Campaign, Delivery, Media, Post, Timings, Wire
from shareasm.networks import Setting
from shareasm.networks.practice import FEED, LIMITS
from shareasm.plan.approval import freeze
from shareasm.publish import Lane
from shareasm.store import Store, open_store
from shareasm.store.engine import Database
from shareasm.store.posts import Approval, Sync
from shareasm.store.tables import metadata
from tests.servers.postgres import Postgres

DAY = datetime(2015, 6, 25, 12, tzinfo=UTC)
FOLDER = "2015-06-25-shareasm"
CAMPAIGN = Campaign(
    FOLDER, "#shareASM 2015", ("shareASM",), DAY - timedelta(hours=12), DAY + timedelta(hours=12), "Europe/London"
)
ACCOUNTS = ("first", "second", "third", "fourth")
TIMINGS = Timings()
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


class HeldClock:
    """A clock that stands still until a test moves it; its wall and its monotonic hand move together."""

    def __init__(self, at: datetime = DAY) -> None:
        self.at = at
        self.seconds = 1_000.0

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.seconds

    def go(self, step: timedelta) -> None:
        """Let time pass."""
        self.at += step
        self.seconds += step.total_seconds()


def a_store(url: str, campaign: Campaign = CAMPAIGN) -> Store:
    """Open the database and keep the campaign in it."""
    store = open_store(url)
    store.campaigns.save(campaign, DAY)
    return store


@contextmanager
def empty_store(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Yield a store with nothing but the campaign in it, of the kind `sqlite` or `postgresql`.

    Making the tables takes a while: a SQLite file is a copy, and one database of PostgreSQL is emptied again and again.
    """
    if kind == "sqlite":
        (tmp_path / "desk.db").write_bytes(_migrated_file())
        database = Database(f"sqlite:///{tmp_path / 'desk.db'}")
    else:
        database = _emptied(request.getfixturevalue("postgres"))
    store = Store(database)
    store.campaigns.save(CAMPAIGN, DAY)
    try:
        yield store
    finally:
        store.close()


@cache
def _migrated_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "desk.db"
        open_store(f"sqlite:///{file}").close()
        return file.read_bytes()


@cache
def _one_database(server: Postgres) -> str:
    url = server.fresh_database()
    open_store(url).close()
    return url


def _emptied(server: Postgres) -> Database:
    database = Database(_one_database(server))
    with database.write() as connection:
        connection.execute(
            text("SET LOCAL session_replication_role = replica")
        )  # past the triggers, as nobody else may
        for table in metadata.sorted_tables:
            connection.execute(table.delete())
    return database


def a_post(
    name: str = "hello",
    *parts: str,
    due: datetime = DAY,
    accounts: Sequence[str] = ("first",),
    not_after: timedelta = 15 * MINUTE,
    **values: object,
) -> Post:
    """Return a post that is ready, in as many parts as it has texts."""
    return Post(
        id=name, message=name, language="en", due_at=due, due_local=due.isoformat(), time_zone="UTC",
        accounts=tuple(accounts), parts={"": parts or (f"{name} #shareASM",)}, ready=True, not_after=not_after,
        file=f"{name}.md", **values,
    )  # fmt: skip  # pyright: ignore[reportArgumentType]


def synced(store: Store, *posts: Post, at: datetime = DAY - HOUR) -> Sync:
    """Take exactly these posts as the files of the campaign."""
    return store.posts.sync(store.campaigns.id_of(FOLDER), posts, {}, at=at)


def approve(store: Store, post_id: str, *, by: str = "Ann", role: str = "approver") -> int:
    """Approve a post as it stands, with the deliveries that the plan would make."""
    one = next(one for one in store.posts.all() if one.post.id == post_id)

    def named(_campaign, post, account, part):
        return f"{post.id}/{account}/{part}" + ("" if one.revision == 1 else f"~{one.revision}")

    frozen = freeze(one.post, CAMPAIGN, dict.fromkeys(ACCOUNTS, "practice"), {"practice": LIMITS}, named)
    approvals = [Approval(delivery, record) for delivery, record in frozen]
    campaign_id = store.campaigns.id_of(FOLDER)
    return store.posts.approve(
        campaign_id, post_id, one.revision_hash, approvals, by=by, role=role, at=DAY - HOUR
    )  # fmt: skip


def planned(store: Store, *posts: Post) -> list[Delivery]:
    """Sync and approve these posts and return their deliveries."""
    synced(store, *posts)
    for post in posts:
        approve(store, post.id)
    return store.queue.all()


def claimed(store: Store, clock: HeldClock, account: str = "first", worker: str = "worker") -> Delivery:
    """Claim the account's next delivery."""
    delivery = store.queue.claim(account, worker, clock, TIMINGS)
    assert delivery is not None
    return delivery


def wire_of(delivery: Delivery) -> Wire:
    """Return a request's body for tests that send nothing."""
    return {"text": delivery.frozen.text, "key": delivery.frozen.key}


def sending(store: Store, clock: HeldClock, account: str = "first", worker: str = "worker") -> Delivery:
    """Claim the account's next delivery and begin to send it."""
    delivery = claimed(store, clock, account, worker)
    assert store.queue.intent(delivery, wire_of(delivery), worker, clock, TIMINGS) is not None
    return delivery


def stands(store: Store, delivery_id: str | None = None) -> tuple[str, str]:
    """Return the state and the reason of a delivery, by default of the first."""
    one = store.queue.get(delivery_id) if delivery_id else store.queue.all()[0]
    return str(one.state), one.reason


def phases(store: Store, delivery_id: str) -> list[object]:
    """Return what was tried, in order."""
    return [attempt["phase"] for attempt in store.queue.tried(delivery_id)]


def a_lane(
    store: Store,
    folder: Path,
    clock: HeldClock,
    *,
    name: str = "first",
    worker: str = "worker",
    faults: Sequence[str] = (),
    pictures: Mapping[str, bytes] | None = None,
) -> Lane:
    """Return a lane of the practice network whose feed lies in the folder."""

    def read(_campaign: str, media: Media) -> bytes:
        if media.file not in (pictures or {}):
            raise PlanError(f"{media.file} is not the picture that was approved.", "Sync and approve the post again.")
        return (pictures or {})[media.file]

    setting = Setting(
        "practice", name, "", f"desk-{name}", folder, clock, lambda _field: "", options={"faults": list(faults)}
    )
    account = networks.network("practice").open_account(setting)
    return Lane(name, account, store, clock, worker, TIMINGS, read)


def on_the_network(folder: Path) -> list[str]:
    """Return the texts of our posts as the network's own file holds them, in their order."""
    import json

    feed = folder / FEED
    lines = feed.read_bytes().splitlines() if feed.exists() else []
    events = [json.loads(line) for line in lines if line.endswith(b"}")]
    return [event["text"] for event in events if event["do"] == "post" and event.get("ours")]
