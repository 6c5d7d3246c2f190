"""Peers: 0.3 seconds of Bluesky's stream, as Jetstream's own tests keep them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from shareasm.archives import Batch, head_of, jetstream, open_content, recognise
from shareasm.model import AccountChanged
from shareasm.text import fold_tag


@pytest.fixture(scope="module")
def file(data: Path) -> Path:
    return data / "bluesky-social+jetstream/internal/corpus/testdata/expected_v1.jsonl"


@pytest.fixture(scope="module")
def batch(file: Path) -> Batch:
    with open_content(file) as content:
        (batch,) = jetstream.read(content)
    return batch


def test_it_is_told_by_its_content(file: Path) -> None:
    assert recognise(head_of(file), file).NAME == "jetstream"


def test_posts_and_reposts_are_what_was_made_and_likes_and_follows_are_not(batch: Batch) -> None:
    assert Counter(seen.kind for seen in batch.seen) == {"original": 9, "reply": 8, "repost": 15}
    assert len({seen.native_id for seen in batch.seen}) == 32
    assert sum(bool(seen.of_id) for seen in batch.seen) == 23


def test_one_post_was_deleted_and_one_account_spoke_of_itself(batch: Batch) -> None:
    assert len(batch.removed) == 1
    assert [type(change) for change in batch.accounts] == [AccountChanged]


def test_every_line_was_read(batch: Batch, file: Path) -> None:
    assert not batch.faults
    assert batch.bytes_read == file.stat().st_size


def test_four_tags_come_once_each(batch: Batch) -> None:
    tags = Counter(fold_tag(tag) for seen in batch.seen for tag in seen.tags)
    assert sorted(tags.values()) == [1, 1, 1, 1]


def test_nothing_is_counted_and_nothing_lies_in_the_future(batch: Batch) -> None:
    assert all(seen.counts.is_empty() and seen.author.followers is None for seen in batch.seen)
    assert {(seen.posted_at.year, seen.posted_at.month) for seen in batch.seen} == {(2026, 7)}
