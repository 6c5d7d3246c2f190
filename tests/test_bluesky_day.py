"""A day on a real Bluesky server: the worker is a process that dies again and again, and nothing is lost or doubled."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text as sql

from shareasm.store import Store
from tests.desks import DeskFolder, until
from tests.servers.bluesky import Account, Pds
from tests.servers.postgres import Postgres
from tests.servers.proxy import Proxy

REPOST = "app.bsky.feed.repost"
ON_TIME = timedelta(seconds=10)
"""Generous: a machine that runs other tests beside this one is slow, but nothing here waits for a retry."""

BEFORE_THE_FIRST_KILL = {"welcome.en", "light.en", "light.fr", "mineria.es"}
"""The others may be late by the time that a new worker needs to start, and to look what is out."""


class Holding(Proxy):
    """A proxy that can hold one answer back for ever: the server has done what was asked, and nobody hears of it."""

    holding = False
    is_held = False

    def note(self, first_line: str) -> bool:
        """Let the request pass, and nothing after it."""
        lose = super().note(first_line)
        if self.holding and "putRecord" in first_line:
            self.holding, self.is_held = False, True
            self.mode = "silent"
        return lose


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Pds]:
    """A PDS of this test's own, which it may kill."""
    with Pds(tmp_path / "pds") as own:
        yield own


@pytest.fixture
def line(server: Pds) -> Iterator[Holding]:
    """The line between desk and server, which can be cut."""
    with Holding(server.url) as proxy:
        yield proxy


@dataclass
class Strangers:
    """Three people who are not us, and everything that they said under the hashtag."""

    pds: Pds
    people: list[Account]
    tagged: list[str] = field(default_factory=list)

    @classmethod
    def on(cls, pds: Pds) -> Strangers:
        """Let three people in."""
        return cls(pds, [pds.create_account(name) for name in ("ana", "babu", "chloe")])

    def say(self, words: str) -> list[str]:
        """Let each of them post it under the hashtag, each in another spelling."""
        spellings = ("#shareASM", "#SHAREASM", "#shareasm2015")
        said = [
            self.pds.create_record(person, f"{words} {spelling} ⛏️")["uri"]
            for person, spelling in zip(self.people, spellings, strict=True)
        ]
        self.tagged += said
        return said

    def repost(self, of: dict[str, Any]) -> None:
        """Let one of them repost a record."""
        record = {
            "$type": REPOST,
            "subject": {"uri": of["uri"], "cid": of["cid"]},
            "createdAt": _iso(datetime.now(UTC)),
        }
        body = {"repo": self.people[0].did, "collection": REPOST, "record": record}
        self.tagged.append(self.pds.call("com.atproto.repo.createRecord", body, self.people[0])["uri"])

    def answer(self, to: dict[str, Any], words: str) -> str:
        """Let one of them answer a record, without the hashtag."""
        reference = {"uri": to["uri"], "cid": to["cid"]}
        return self.pds.create_record(self.people[1], words, reply={"root": reference, "parent": reference})["uri"]


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def desk_at(folder: Path, pds: Pds, address: str, database: str) -> tuple[DeskFolder, Account]:
    """Make a desk with one Bluesky account behind this address, and a campaign."""
    account = pds.create_account("desk")
    desk = DeskFolder(folder, {"SHAREASM_ORG_BLUESKY_PASSWORD": account.password})
    words = f'[accounts.org-bluesky]\nnetwork = "bluesky"\nserver = "{address}"\nhandle = "{account.handle}"\n'
    return desk.desk_toml(words, database).campaign(), account


def mentions(store: Store) -> list[tuple[str, str, str]]:
    """Return native id, state and text of everything that the desk has of the conversation."""
    with store.database.read() as connection:
        rows = connection.execute(sql("SELECT native_id, state, text FROM mentions ORDER BY id"))
        return [(native_id, state, words) for native_id, state, words in rows]


def published(store: Store, *ids: str) -> bool:
    """Tell whether the posts of these ids are out."""
    return all(d.state == "published" for d in store.queue.all() if not ids or d.post in ids)


def features_of(record: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what each facet covers, cut out of the text by its bytes, and what it says that is."""
    found = []
    for facet in record.get("facets", ()):
        cut = record["text"].encode()[facet["index"]["byteStart"] : facet["index"]["byteEnd"]].decode()
        [feature] = facet["features"]
        found.append((cut, feature.get("tag") or feature["uri"]))
    return found


def assert_all_out_once(store: Store, pds: Pds, account: Account, *, on_time: Collection[str]) -> dict[str, Any]:
    """Compare the desk with the server, record by record. Return the records by delivery."""
    deliveries = store.queue.all()
    records = pds.records(account.did)
    assert Counter(d.receipt.remote_id for d in deliveries if d.receipt) == Counter(r["uri"] for r in records)
    assert len(records) == len(deliveries)
    assert Counter(r["value"]["text"] for r in records) == Counter(d.frozen.text for d in deliveries)
    by_uri = {record["uri"]: record for record in records}
    found = {d.id: by_uri[d.receipt.remote_id] for d in deliveries if d.receipt}
    for d in deliveries:
        value = found[d.id]["value"]
        made_at = datetime.fromisoformat(value["createdAt"])
        assert timedelta(0) <= made_at - d.due_at < timedelta(seconds=1), d.id
        assert d.sent_at is not None
        assert d.sent_at >= d.due_at, d.id
        assert d.post not in on_time or d.sent_at - d.due_at < ON_TIME, (d.id, d.late_ms)
        assert value["langs"] == [d.frozen.language]
    return found


def assert_threads_in_order(store: Store, found: dict[str, Any]) -> None:
    """Look at each part: it answers the one before it, and its root is the first."""
    threads: dict[str, list[dict[str, Any]]] = {}
    for d in sorted(store.queue.all(), key=lambda d: (d.post, d.part)):
        threads.setdefault(d.post, []).append(found[d.id])
    for parts in threads.values():
        for before, part in pairwise(parts):
            reply = part["value"]["reply"]
            assert reply["parent"] == {"uri": before["uri"], "cid": before["cid"]}
            assert reply["root"] == {"uri": parts[0]["uri"], "cid": parts[0]["cid"]}


def assert_facets_right(found: dict[str, Any]) -> None:
    """Look at each facet: cut by bytes it is the hashtag or the link that it says; no hashtag is without one."""
    for record in found.values():
        words = record["value"]["text"]
        wanted = [(f"#{tag}", tag) for tag in re.findall(r"#(\w+)", words)]
        wanted += [(link, link) for link in re.findall(r"https://\S+", words)]
        assert sorted(features_of(record["value"])) == sorted(wanted), words


def plan_the_day(desk: DeskFolder, start: datetime) -> None:
    """Write the posts of a day that lasts half a minute."""

    def at(seconds: int) -> datetime:
        return start + timedelta(seconds=seconds)

    desk.picture("lamps.png", "orange")
    desk.picture("gold.jpg", "gold")
    two = (
        '[{file: lamps.png, alt: {en: "Seven miners with lamps", fr: "Sept mineurs avec des lampes"}},'
        ' {file: gold.jpg, alt: {en: "A grain of gold", fr: "Un grain d’or"}}]'
    )
    desk.post(
        "welcome",
        at(0),
        "⛏️👩🏾‍🌾🇹🇿 #shareASM begins: tell us.\n---\nSecond part, é ☕ 日本 #shareASM\n---\nThird part.",
    )
    desk.post(
        "light",
        at(2),
        "## en\nLamps ☕ #shareASM\n## fr\nDes lampes à l’aube, déjà ⛏️ #shareASM",
        lang="[en, fr]",
        media=two,
    )
    desk.post("mineria", at(4), "¿Quién compra el oro? ⛏️ #shareASM https://www.iied.org/asm", lang="es")
    desk.post("habari", at(5), "Habari! 👷🏿‍♀️ #shareASM\n---\nTunajibu siku nzima ✨ #madini", lang="sw")
    desk.post("card", at(6), "What we learnt 📗 #shareASM", link="https://www.iied.org/asm")
    desk.post("reply", at(8), "One more word ➕ #shareASM", reply_to="welcome")
    for number in range(6):
        desk.post(f"same-{number}", at(10), f"{number}️⃣ of six at one moment #shareASM")
    desk.post("evening", at(11), "The day is nearly over 🌤️ #shareASM\n---\nIts second part #shareASM\n---\nIts third")
    for number in range(4):
        desk.post(f"late-{number}", at(12 + number), f"Late in the day {number}️⃣ #shareASM")
    desk.post("last", at(17), "Thank you 🙏🏽 #shareASM #asante")


def test_a_day_with_a_worker_that_dies_four_times_and_a_server_that_dies_once(
    tmp_path: Path, server: Pds, line: Holding
) -> None:
    desk, account = desk_at(tmp_path / "desk", server, line.url, "sqlite:///desk.db")
    people = Strangers.on(server)
    people.say("Before anybody listens")
    start = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=7)
    plan_the_day(desk, start)
    synced = desk.good("plan", "sync", "--json").json
    assert [len(one["new"]) for one in synced] == [19]
    assert desk.good("plan", "approve", "--all", "--by", "Ana", "--json").json["left_out"] == []
    with desk.store() as store:
        held = live_the_day(desk, store, server, line, account, people, start)
        found = assert_all_out_once(store, server, account, on_time=BEFORE_THE_FIRST_KILL)
        assert_threads_in_order(store, found)
        assert_facets_right(found)
        assert_pictures_and_cards(found)
        assert_the_conversation_is_whole(store, server, account, people)
        assert_nobody_sent_without_looking(store, held)


def live_the_day(
    desk: DeskFolder, store: Store, server: Pds, line: Holding, account: Account, people: Strangers, start: datetime
) -> str:
    """Run the worker and kill it, again and again, until all is out and all is heard. Return what was held."""
    with desk.worker() as worker:
        sleep_until(start + timedelta(seconds=1))
        people.say("While it listens")
        deleted_live = people.say("I take this back at once")[0]
        server.delete_record(people.people[0], deleted_live)
        sleep_until(start + timedelta(seconds=5.4))
        worker.kill()
    people.say("While it is dead")
    deleted_unheard = people.say("I take this back while nobody listens")[1]
    server.delete_record(people.people[1], deleted_unheard)
    with desk.worker() as worker:
        until(lambda: published(store, "welcome.en"), worker)
        sleep_until(start + timedelta(seconds=10.1))
        worker.kill()  # somewhere among six posts of one moment
    line.holding = True
    with desk.worker() as worker:
        until(lambda: line.is_held, worker)
        [held] = [d for d in store.queue.all() if d.state == "sending"]
        until(lambda: held.frozen.text in {r["value"]["text"] for r in server.records(account.did)}, worker)
        worker.kill()  # the post is there, the answer is not, and the intent is all that the desk has
    line.pass_all()
    line.swallow(containing="putRecord")
    with desk.worker() as worker:
        until(lambda: line.swallowed, worker)
        worker.kill()
    server.restart()
    people.say("After the server died too")
    with desk.worker() as worker:
        until(lambda: published(store), worker, within=120)  # two looks, a minute apart, where a kill met an intent
        own = {r["value"]["text"]: r for r in server.records(account.did)}
        people.repost(next(r for words, r in own.items() if "begins" in words))
        people.answer(next(r for words, r in own.items() if "begins" in words), "Nobody hears us here")
        server.create_record(people.people[2], "Nothing to do with it, #shareASMarkdown")
        last = people.say("The last word")[-1]
        until(lambda: last in {native_id for native_id, _, _ in mentions(store)}, worker)
        assert worker.stop() == 0
    return held.id


def sleep_until(moment: datetime) -> None:
    """Wait for a moment of the day."""
    time.sleep(max(0.0, (moment - datetime.now(UTC)).total_seconds()))


def assert_pictures_and_cards(found: dict[str, Any]) -> None:
    """Look at what hangs on the posts."""
    alts = {
        delivery: [image["alt"] for image in record["value"]["embed"]["images"]]
        for delivery, record in found.items()
        if record["value"].get("embed", {}).get("$type") == "app.bsky.embed.images"
    }
    assert alts == {
        "day/light.en/org-bluesky/1": ["Seven miners with lamps", "A grain of gold"],
        "day/light.fr/org-bluesky/1": ["Sept mineurs avec des lampes", "Un grain d’or"],
    }
    assert found["day/card.en/org-bluesky/1"]["value"]["embed"]["external"]["uri"] == "https://www.iied.org/asm"
    welcome = found["day/welcome.en/org-bluesky/1"]
    answered = found["day/reply.en/org-bluesky/1"]["value"]["reply"]
    assert answered["parent"]["uri"] == answered["root"]["uri"] == welcome["uri"]


def assert_the_conversation_is_whole(store: Store, server: Pds, account: Account, people: Strangers) -> None:
    """Compare what the desk heard with what was said."""
    heard = mentions(store)
    assert not [native_id for native_id, n in Counter(row[0] for row in heard).items() if n > 1]
    ours = {r["uri"] for r in server.records(account.did) if "#shareASM" in r["value"]["text"]}
    deleted = {native_id for native_id, state, _ in heard if state == "deleted"}
    counted = {native_id for native_id, state, _ in heard if state == "counted"}
    assert counted | deleted >= ours
    still_there = {r["uri"] for person in people.people for r in server.records(person.did)}
    gone = [uri for uri in people.tagged if uri not in still_there and REPOST not in uri]
    assert len(gone) == 2
    assert counted == ours | set(people.tagged) - set(gone)
    assert deleted <= set(gone)
    assert [words for native_id, state, words in heard if state == "deleted" and words] == []
    talk = {words for _, state, words in heard if state == "conversation"}
    assert "Nobody hears us here" in talk
    assert "Third part." in talk
    campaign_id = store.campaigns.id_of("day")
    assert not {one.native_id for one in store.conversation.newest(campaign_id, limit=500)} & set(gone)


def assert_nobody_sent_without_looking(store: Store, held: str) -> None:
    """Read the log of the deliveries: between two intents of one there is always a look, or a surely unsent try."""
    for d in store.queue.all():
        phases = [str(row["phase"]) for row in store.queue.tried(d.id)]
        assert "intent,intent" not in ",".join(phases), (d.id, phases)
    assert [str(row["phase"]) for row in store.queue.tried(held)] == ["intent", "reconciled"]


def test_a_day_on_postgresql(tmp_path: Path, pds: Pds, postgres: Postgres) -> None:
    desk, account = desk_at(tmp_path / "desk", pds, pds.url, postgres.fresh_database())
    people = Strangers.on(pds)
    people.say("Before anybody listens")
    start = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=6)
    desk.post("one", start, "⛏️ One #shareASM\n---\nTwo ☕ #shareASM")
    for number in range(4):
        desk.post(f"same-{number}", start + timedelta(seconds=1), f"{number}️⃣ #shareASM")
    desk.post("late", start + timedelta(seconds=3), "Tutaonana 👋🏿 #shareASM", lang="sw")
    desk.good("plan", "sync")
    desk.good("plan", "approve", "--all", "--by", "Ana")
    with desk.store() as store:
        with desk.worker() as worker:
            until(lambda: published(store, "one.en"), worker)
            worker.kill()
        people.say("While it is dead")
        with desk.worker() as worker:
            until(lambda: published(store), worker, within=120)
            last = people.say("The last word")[-1]
            until(lambda: last in {native_id for native_id, _, _ in mentions(store)}, worker)
            assert worker.stop() == 0
        found = assert_all_out_once(store, pds, account, on_time={"one.en"})
        assert_threads_in_order(store, found)
        assert_facets_right(found)
        counted = [native_id for native_id, state, _ in mentions(store) if state == "counted"]
        here = {person.did for person in people.people} | {account.did}
        mine = [uri for uri in counted if uri.split("/")[2] in here]  # other tests live on this server too
        assert Counter(mine) == Counter([*people.tagged, *(r["uri"] for r in pds.records(account.did))])
