"""Peers: X records of DocNow's and médialab's own tests, against the right answers of shared/data/README.md."""

from __future__ import annotations

import html
import json
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from shareasm.archives import Batch, head_of, open_content, recognise, twarc2
from shareasm.model import Seen
from shareasm.text import fold_tag

CSV = "DocNow+twarc-csv/test-data"
NETWORK = "DocNow+twarc-network/test-data"
TWITWI = "medialab+twitwi/test/resources"

Read = Callable[[str], Batch]


@pytest.fixture
def read(data: Path) -> Read:
    """Read a file, recognised by its content, as one batch."""

    def read_file(name: str) -> Batch:
        file = data / name
        with open_content(file) as content:
            parts = list(recognise(head_of(file), file).read(content))
        assert sum(part.bytes_read for part in parts) == file.stat().st_size
        return Batch(
            seen=[seen for part in parts for seen in part.seen],
            lines=[line for part in parts for line in part.lines],
            context=[seen for part in parts for seen in part.context],
            removed=[removed for part in parts for removed in part.removed],
            counted=[counted for part in parts for counted in part.counted],
            faults=[fault for part in parts for fault in part.faults],
        )

    return read_file


def kinds(batch: Batch) -> dict[str, int]:
    return dict(Counter(seen.kind for seen in batch.seen))


def accounts(posts: Iterable[Seen]) -> set[str]:
    return {seen.author.native_id for seen in posts}


def speaking(batch: Batch) -> set[str]:
    return accounts(seen for seen in batch.seen if seen.kind != "repost")


def followers(batch: Batch) -> list[int]:
    known = {seen.author.native_id: seen.author.followers for seen in batch.seen}
    return sorted((number for number in known.values() if number is not None), reverse=True)


def folded(batch: Batch) -> list[Seen]:
    """Return each distinct post once, with its latest counts: what was spoken, and the originals of reposts."""
    spoken = {seen.native_id for seen in batch.seen if seen.kind != "repost"}
    wanted = spoken | {seen.of_id for seen in batch.seen if seen.kind == "repost"}
    known = [seen for seen in (*batch.context, *batch.seen) if seen.native_id in wanted]
    known.sort(key=lambda seen: seen.counts_at or seen.posted_at)
    return list({seen.native_id: seen for seen in known}.values())


def likes(posts: Iterable[Seen]) -> int:
    return sum(seen.counts.likes or 0 for seen in posts)


def with_tag(batch: Batch, tag: str) -> int:
    return sum(tag in map(fold_tag, seen.tags) for seen in batch.seen)


def share(part: int, of: int) -> int:
    return round(100 * part / of)


def raw_sum(batch: Batch, name: str) -> int:
    return sum(json.loads(seen.raw)["public_metrics"][name] for seen in batch.seen)


def values(seen: Seen) -> tuple[Any, ...]:
    """Return everything but the raw record, which a flattened line writes in another way."""
    return tuple(getattr(seen, name) for name in Seen.__slots__ if name != "raw")


# ── flat and noflat ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["flat.jsonl", "noflat.jsonl"])
def test_flattened_and_paged_records_hold_the_same_hundred_posts(read: Read, name: str) -> None:
    batch = read(f"{CSV}/{name}")
    assert kinds(batch) == {"original": 14, "reply": 31, "quote": 8, "repost": 47}
    assert len(accounts(batch.seen)) == 96
    assert (sum(followers(batch)), followers(batch)[0]) == (205_622, 77_227)
    assert not batch.faults


@pytest.mark.parametrize("name", ["flat.jsonl", "noflat.jsonl"])
def test_likes_are_folded_over_distinct_posts(read: Read, name: str) -> None:
    batch = read(f"{CSV}/{name}")
    assert (len(folded(batch)), likes(folded(batch))) == (83, 16_379)
    by_id = {post.native_id: post for post in folded(batch)}
    assert likes(by_id[seen.of_id if seen.kind == "repost" else seen.native_id] for seen in batch.seen) == 23_069


def test_flattened_and_paged_records_become_equal_values(read: Read) -> None:
    flat, paged = read(f"{CSV}/flat.jsonl"), read(f"{CSV}/noflat.jsonl")
    unequal = sum(values(a) != values(b) for a, b in zip(flat.seen, paged.seen, strict=True))
    assert unequal == 0
    assert (list(flat.lines), set(paged.lines)) == (list(range(1, 101)), {1})


def test_flattened_and_paged_records_show_the_same_context(read: Read) -> None:
    flat = {seen.native_id: values(seen) for seen in read(f"{CSV}/flat.jsonl").context}
    paged = read(f"{CSV}/noflat.jsonl")
    unequal = sum(flat.get(seen.native_id) != values(seen) for seen in paged.context)
    others = len(flat.keys() - {seen.native_id for seen in paged.context} - {seen.native_id for seen in paged.seen})
    assert (unequal, others) == (0, 0)


# ── kpop: folding, reach, hashtags ───────────────────────────────────────────────────────────────────────────────────


def test_kpop_posts_and_contributors(read: Read) -> None:
    batch = read(f"{CSV}/kpop.jsonl")
    assert kinds(batch) == {"original": 22, "repost": 78}
    assert (len(accounts(batch.seen)), len(speaking(batch))) == (87, 13)
    assert not batch.faults


def test_kpop_counts_are_folded_and_never_taken_from_the_rows(read: Read) -> None:
    batch = read(f"{CSV}/kpop.jsonl")
    posts = folded(batch)
    assert raw_sum(batch, "like_count") == 3
    assert (len(posts), likes(posts)) == (43, 44_957)
    assert sum(post.counts.reposts or 0 for post in posts) == 20_914
    assert sum(post.counts.replies or 0 for post in posts) == 1_121
    assert sum(post.counts.quotes or 0 for post in posts) == 1_333
    by_id = {post.native_id: post for post in posts}
    merged = [by_id[seen.of_id if seen.kind == "repost" else seen.native_id] for seen in batch.seen]
    assert likes(merged) == 206_430
    assert sum(post.counts.reposts or 0 for post in merged) == 82_867
    assert all(seen.counts.is_empty() for seen in batch.seen if seen.kind == "repost")


def test_kpop_followers(read: Read) -> None:
    batch = read(f"{CSV}/kpop.jsonl")
    numbers = followers(batch)
    by_account = {seen.author.native_id: seen.author.followers or 0 for seen in batch.seen}
    silent = sum(number for account, number in by_account.items() if account not in speaking(batch))
    assert (sum(numbers), numbers[0], numbers[len(numbers) // 2]) == (112_706, 43_050, 141)
    assert (share(numbers[0], sum(numbers)), share(sum(numbers[:5]), sum(numbers))) == (38, 77)
    assert share(silent, sum(numbers)) == 58


def test_kpop_reposts_take_the_hashtags_of_their_originals(read: Read) -> None:
    batch = read(f"{CSV}/kpop.jsonl")
    own = [json.loads(seen.raw).get("entities", {}).get("hashtags", []) for seen in batch.seen]
    assert sum(any(fold_tag(tag["tag"]) == "kpop" for tag in tags) for tags in own) == 94
    assert with_tag(batch, "kpop") == 100


# ── tweets.jsonl of twarc-network ────────────────────────────────────────────────────────────────────────────────────


def test_network_posts_contributors_and_followers(read: Read) -> None:
    batch = read(f"{NETWORK}/tweets.jsonl")
    assert kinds(batch) == {"original": 81, "reply": 35, "quote": 17, "repost": 367}
    assert (len(accounts(batch.seen)), len(speaking(batch))) == (401, 94)
    numbers = followers(batch)
    assert sum(numbers) == 1_299_871
    assert (share(numbers[0], sum(numbers)), share(sum(numbers[:5]), sum(numbers))) == (10, 33)


def test_network_likes_and_hashtags(read: Read) -> None:
    batch = read(f"{NETWORK}/tweets.jsonl")
    assert (len(folded(batch)), likes(folded(batch))) == (264, 2_300_308)
    by_id = {post.native_id: post for post in folded(batch)}
    merged = [by_id.get(seen.of_id if seen.kind == "repost" else seen.native_id) for seen in batch.seen]
    assert likes(post for post in merged if post) == 2_548_558
    own = [json.loads(seen.raw).get("entities", {}).get("hashtags", []) for seen in batch.seen]
    assert sum(any(fold_tag(tag["tag"]) == "blacklivesmatter" for tag in tags) for tags in own) == 308


def test_network_ties(read: Read) -> None:
    batch = read(f"{NETWORK}/tweets.jsonl")
    actions = Counter[str]()
    for seen in batch.seen:
        actions["repost"] += seen.kind == "repost"
        actions["reply"] += bool(seen.reply_to_id)
        actions["quote"] += bool(seen.quote_of_id)
    assert actions == {"repost": 367, "reply": 35, "quote": 18}


# ── Stream, counts, edits, odd shapes ────────────────────────────────────────────────────────────────────────────────


def test_the_stream_s_cut_last_line_is_reported_and_the_rest_is_read(read: Read) -> None:
    batch = read(f"{CSV}/streaming_output_with_error.jsonl")
    assert kinds(batch) == {"original": 3, "reply": 3, "quote": 1}
    assert list(batch.lines) == [1, 2, 3, 4, 5, 6, 7]
    assert [fault.line for fault in batch.faults] == [8]


def test_the_stream_s_counts_are_0_at_age_0(read: Read) -> None:
    batch = read(f"{CSV}/streaming_output_with_error.jsonl")
    assert [seen.counts.likes for seen in batch.seen] == [0] * 7
    assert sum(seen.counts_at != seen.posted_at for seen in batch.seen) == 0


def test_counts_are_a_cross_check_and_hold_no_mentions(read: Read) -> None:
    batch = read(f"{CSV}/counts.jsonl")
    assert (len(batch.counted), sum(counted.posts for counted in batch.counted)) == (169, 771_665)
    assert batch.counted[0].from_at == datetime(2021, 10, 16, 18, 21, 34, tzinfo=UTC)
    assert (batch.seen, batch.faults) == ([], [])


def test_three_records_of_one_edited_post_are_one_post_with_two_snapshots(read: Read) -> None:
    records = [seen for name in ("before", "after") for seen in read(f"{CSV}/edited_{name}.jsonl").seen]
    records += read(f"{CSV}/edited.jsonl").seen
    assert len(records) == 3
    assert [seen.native_id[-8:] for seen in records] == ["35764992"] * 3
    newest = max(records, key=lambda seen: (seen.edited_at is not None, seen.edited_at or seen.posted_at))
    assert newest.text.startswith("hey :)")
    assert len({seen.posted_at for seen in records}) == 1
    assert {seen.counts.likes for seen in records if not seen.counts.is_empty()} == {27, 32}
    assert len({seen.counts_at for seen in records}) == 3


@pytest.mark.parametrize(
    ("name", "posts", "removed"),
    [
        ("geo_tweets.jsonl", 2, 0),
        ("many_urls.jsonl", 1, 0),
        ("two_tweets.jsonl", 1, 0),
        ("empty.json", 0, 0),
        ("tweets_compliance.jsonl", 0, 2),
    ],
)
def test_odd_shapes(read: Read, name: str, posts: int, removed: int) -> None:
    batch = read(f"{CSV}/{name}")
    assert (len(batch.seen), len(batch.removed), len(batch.faults)) == (posts, removed, 0)


def test_only_files_of_x_are_taken_for_them(data: Path) -> None:
    ours = {file for file in data.rglob("*") if file.is_file() and twarc2.recognises(head_of(file))}
    assert {file.relative_to(data).parts[0] for file in ours} == {
        "DocNow+twarc-csv",
        "DocNow+twarc-network",
        "medialab+twitwi",
    }
    assert {file.suffix for file in ours} == {".json", ".jsonl"}
    assert len(ours) == 15


# ── twitwi's golden values ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def golden(data: Path) -> dict[str, dict[str, Any]]:
    names = ("normalized-tweets-v2-all.json", "normalized-tweets-v2.json")
    return {post["id"]: post for name in names for post in json.loads((data / TWITWI / name).read_text("utf-8"))}


def words(text: str) -> list[str]:
    """Return the words without links, which twitwi writes out."""
    return [word for word in html.unescape(text).split() if not word.startswith("http")]


def test_a_printed_page_holds_ten_posts_and_their_five_originals(read: Read) -> None:
    batch = read(f"{TWITWI}/payload-v2.json")
    assert (len(batch.seen), len(batch.context), len(batch.faults)) == (10, 5, 0)
    assert kinds(batch) == {"repost": 9, "reply": 1}


def test_authors_times_references_and_links_are_those_of_twitwi(read: Read, golden: dict[str, dict[str, Any]]) -> None:
    batch = read(f"{TWITWI}/payload-v2.json")
    compared = unequal = 0
    for seen in (*batch.seen, *batch.context):
        if not (post := golden.get(seen.native_id)):
            continue
        of_id = post.get("retweeted_id") or post.get("to_tweetid") or post.get("quoted_id")
        theirs = (post["user_id"], post["user_screen_name"], post["user_followers"], post["lang"], of_id or "")
        ours = (seen.author.native_id, seen.author.handle, seen.author.followers, seen.language, seen.of_id)
        unequal += ours != theirs
        unequal += seen.posted_at.timestamp() != post["timestamp_utc"]
        unequal += sorted(seen.links) != sorted(post["links"])
        unequal += sorted(seen.mentions) != sorted(post["mentioned_ids"])
        compared += 1
    assert (compared, unequal) == (14, 0)


def test_texts_tags_and_counts_are_those_of_twitwi(read: Read, golden: dict[str, dict[str, Any]]) -> None:
    batch = read(f"{TWITWI}/payload-v2.json")
    compared = unequal = 0
    for seen in (*batch.seen, *batch.context):
        if not (post := golden.get(seen.native_id)):
            continue
        compared += 1
        tags, golden_tags = set(map(fold_tag, seen.tags)), set(map(fold_tag, post["hashtags"]))
        if seen.kind == "repost":  # twitwi writes the original's text and counts into it; X cuts it, and we leave it so
            unequal += not golden_tags <= tags
            unequal += not html.unescape(post["text"]).startswith(html.unescape(seen.text[:100]))
        else:
            unequal += golden_tags != tags
            unequal += words(seen.text) != words(post["text"])
            unequal += (seen.counts.likes, seen.counts.reposts) != (post["like_count"], post["retweet_count"])
    assert (compared, unequal) == (14, 0)
