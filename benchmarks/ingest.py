"""Ingest: mentions into SQLite with rollups, beside a raw sqlite3 upsert of the same decoded rows.

Both read the same seeded pages in X's format, decode and normalise them with the desk's reader, and write in
transactions of one page. The raw contestant keeps mentions and authors only, without snapshots, raw records or rollups.
"""

from __future__ import annotations

import json
import random
import sqlite3
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.rounds import interleaved, table

DAY = datetime(2026, 6, 25, tzinfo=UTC)


def write_pages(file: Path, mentions: int, seed: int = 7) -> None:
    """Write seeded search pages of 100 in X's format: heavy-tailed authors, 58 % reposts, invented people only."""
    rng = random.Random(seed)  # noqa: S311 - data, not a secret
    originals: list[dict[str, object]] = []
    with file.open("w", encoding="utf-8") as out:
        for start in range(0, mentions, 100):
            posts, carried, people = [], {}, {}
            for n in range(start, min(start + 100, mentions)):
                author = str(int(rng.paretovariate(0.9)) % 100_000 + 1)
                people[author] = _person(author, rng)
                at = (DAY + timedelta(seconds=86_400 * n // mentions)).isoformat().replace("+00:00", ".000Z")
                post = _post(str(10**18 + n), author, at, rng)
                if originals and rng.random() < 0.58:
                    of = originals[int(len(originals) * rng.random() ** 3)]
                    post |= {"referenced_tweets": [{"type": "retweeted", "id": of["id"]}], "text": f"RT: {of['text']}"}
                    carried[of["id"]] = of
                    people[str(of["author_id"])] = _person(str(of["author_id"]), rng)
                else:
                    originals.append(post)
                posts.append(post)
            includes = {"users": list(people.values()), "tweets": list(carried.values())}
            page = {"data": posts, "includes": includes, "meta": {"result_count": len(posts)},
                    "__twarc": {"url": "", "version": "2", "retrieved_at": "2026-06-26T00:00:00+00:00"}}  # fmt: skip
            out.write(json.dumps(page) + "\n")


def run(mentions: int = 20_000, rounds: int = 5) -> str:
    """Return the table of ingest costs."""
    with tempfile.TemporaryDirectory() as folder:
        pages = Path(folder) / "pages.jsonl"
        write_pages(pages, mentions)
        me = [sys.executable, "-m", "benchmarks.ingest"]
        figures = interleaved(
            {name: [*me, name, str(pages)] for name in ("start", "decode", "raw sqlite3", "the desk")}, rounds
        )
    start = figures["start"].median
    raw = figures["raw sqlite3"].median - start
    rows = []
    for name in ("decode", "raw sqlite3", "the desk"):
        spent = figures[name].median - start
        goal, met = ("≥ 0.60 ×", "met" if raw / spent >= 0.6 else "missed") if name == "the desk" else ("", "")
        rows.append((name, f"{mentions / spent:,.0f} mentions/s", f"{raw / spent:.2f} ×", goal, met))
    return table(f"Ingest of {mentions:,} mentions with rollups, decode included", rows)


def contestant(name: str, pages: Path) -> None:
    """Run one contestant in this process."""
    from shareasm import collect
    from shareasm.archives import archive
    from shareasm.model import Campaign, WorldClock
    from shareasm.store import open_store

    campaign = Campaign("bench", "Bench", ("shareASM",), DAY, DAY + timedelta(days=1), "UTC")
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(f"sqlite:///{folder}/desk.db")
        store.campaigns.save(campaign, DAY)
        if name == "decode":
            with pages.open("rb") as content:
                sum(len(batch.seen) for batch in archive("twarc2").read(content))
        elif name == "raw sqlite3":
            _raw(pages, Path(folder) / "raw.db")
        elif name == "the desk":
            collect.import_files(store, campaign, [pages], clock=WorldClock(), own_handles=frozenset())
        store.close()


def _raw(pages: Path, file: Path) -> None:
    from shareasm.archives import archive

    database = sqlite3.connect(file, isolation_level=None)
    database.executescript(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
        "CREATE TABLE authors(network TEXT, native_id TEXT, handle TEXT, followers INT, UNIQUE(network, native_id));"
        "CREATE TABLE mentions(id INTEGER PRIMARY KEY, network TEXT, native_id TEXT, kind TEXT, author TEXT, at INT, "
        "text TEXT, lang TEXT, likes INT, UNIQUE(network, native_id)); CREATE INDEX at ON mentions(at);"
    )
    with pages.open("rb") as content:
        for batch in archive("twarc2").read(content):
            database.execute("BEGIN")
            database.executemany(
                "INSERT INTO authors VALUES (?,?,?,?) ON CONFLICT DO UPDATE SET followers=excluded.followers",
                [("x", s.author.native_id, s.author.handle, s.author.followers) for s in batch.seen],
            )
            database.executemany(
                "INSERT INTO mentions(network, native_id, kind, author, at, text, lang, likes) "
                "VALUES (?,?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET likes=excluded.likes",
                [
                    (s.network, s.native_id, s.kind, s.author.native_id, int(s.posted_at.timestamp()), s.text,
                     s.language, s.counts.likes)
                    for s in batch.seen
                ],
            )  # fmt: skip
            database.execute("COMMIT")


def _person(author: str, rng: random.Random) -> dict[str, object]:
    return {"id": author, "username": f"person{author}", "name": f"Person {author}", "description": "x" * 120,
            "public_metrics": {"followers_count": int(rng.paretovariate(1) * 40), "following_count": 90,
                               "tweet_count": 1_000, "listed_count": 1}}  # fmt: skip


def _post(native_id: str, author: str, at: str, rng: random.Random) -> dict[str, object]:
    words = " ".join(rng.choice(("mine", "gold", "community", "fair", "river", "licence")) for _ in range(20))
    return {"id": native_id, "author_id": author, "created_at": at, "text": f"{words} #shareASM",
            "conversation_id": native_id, "lang": rng.choice(("en", "es", "fr", "sw")), "source": "web",
            "possibly_sensitive": False,
            "edit_history_tweet_ids": [native_id], "reply_settings": "everyone",
            "entities": {"hashtags": [{"start": 0, "end": 9, "tag": "shareASM"}]},
            "public_metrics": {"like_count": rng.randrange(50), "retweet_count": 3, "reply_count": 1, "quote_count": 0,
                               "bookmark_count": 0, "impression_count": 900}}  # fmt: skip


if __name__ == "__main__":
    contestant(sys.argv[1], Path(sys.argv[2]))
