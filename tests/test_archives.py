"""Archives: other people's collections, with records invented here."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from shareasm.archives import Archive, Batch, archive, head_of, jetstream, names, open_content, recognise, twarc2
from shareasm.errors import ArchiveError
from shareasm.model import AccountChanged, Counted, Counts, Removed, Seen

NOON = datetime(2015, 6, 25, 12, 0, tzinfo=UTC)
RETRIEVED = datetime(2015, 6, 26, 6, 30, tzinfo=UTC)
BOM = b"\xef\xbb\xbf"


# ── Records as X sends them ──────────────────────────────────────────────────────────────────────────────────────────


def x_user(id_: str = "7", name: str = "pit_voices", **more: Any) -> dict[str, Any]:
    metrics = {"followers_count": 40, "following_count": 12, "tweet_count": 900, "listed_count": 1}
    return {"id": id_, "username": name, "name": "Pit Voices", "public_metrics": metrics, "protected": False, **more}


def x_post(id_: str = "100", **more: Any) -> dict[str, Any]:
    metrics = {"like_count": 5, "retweet_count": 2, "reply_count": 1, "quote_count": 0}
    return {
        "id": id_,
        "author_id": "7",
        "created_at": "2015-06-25T12:00:00.000Z",
        "conversation_id": id_,
        "text": "Gold from small mines, fairly #shareASM",
        "lang": "en",
        "entities": {"hashtags": [{"start": 29, "end": 38, "tag": "shareASM"}]},
        "public_metrics": metrics,
        **more,
    }


def x_repost(id_: str = "200", of: str = "100", **more: Any) -> dict[str, Any]:
    metrics = {"like_count": 0, "retweet_count": 2, "reply_count": 0, "quote_count": 0}
    text = "RT @pit_voices: Gold from small mi…"
    return x_post(
        id_,
        author_id="8",
        text=text,
        entities=None,
        public_metrics=metrics,
        referenced_tweets=[{"type": "retweeted", "id": of}],
        **more,
    )


def x_page(*posts: Any, users: Any = None, tweets: Any = (), **more: Any) -> dict[str, Any]:
    users = [x_user(), x_user("8", "relayer")] if users is None else users
    twarc = {"retrieved_at": "2015-06-26T06:30:00+00:00", "version": "2.14.0"}
    return {"data": list(posts), "includes": {"users": users, "tweets": list(tweets)}, "__twarc": twarc, **more}


def lines_of(*values: Any) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def batches(content: bytes, reader: Archive = twarc2) -> list[Batch]:
    return list(reader.read(io.BytesIO(content)))


def whole(content: bytes, reader: Archive = twarc2) -> Batch:
    """Return everything the reader makes of the content as one batch."""
    parts = batches(content, reader)
    return Batch(
        seen=[seen for part in parts for seen in part.seen],
        lines=[line for part in parts for line in part.lines],
        context=[seen for part in parts for seen in part.context],
        removed=[removed for part in parts for removed in part.removed],
        accounts=[account for part in parts for account in part.accounts],
        counted=[counted for part in parts for counted in part.counted],
        faults=[fault for part in parts for fault in part.faults],
        bytes_read=sum(part.bytes_read for part in parts),
    )


def only(content: bytes, reader: Archive = twarc2) -> Seen:
    batch = whole(content, reader)
    assert not batch.faults
    (seen,) = batch.seen
    return seen


def faults(content: bytes, reader: Archive = twarc2) -> list[int]:
    return [fault.line for fault in whole(content, reader).faults]


# ── twarc2: one post ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_page_gives_each_post_with_its_author_its_counts_and_their_age() -> None:
    seen = only(lines_of(x_page(x_post())))
    assert (seen.network, seen.native_id, seen.kind, seen.posted_at) == ("x", "100", "original", NOON)
    assert (seen.author.handle, seen.author.followers, seen.author.following, seen.author.posts) == (
        "pit_voices",
        40,
        12,
        900,
    )
    assert seen.counts == Counts(likes=5, reposts=2, replies=1, quotes=0)
    assert seen.counts_at == RETRIEVED
    assert seen.url == "https://x.com/pit_voices/status/100"
    assert (seen.tags, seen.root_id, seen.language, seen.public) == (("shareASM",), "100", "en", True)
    assert json.loads(seen.raw) == x_post()


def test_a_count_that_x_does_not_give_is_unknown_and_not_0() -> None:
    counts = only(lines_of(x_page(x_post(public_metrics={"like_count": 0, "reply_count": None})))).counts
    assert counts == Counts(likes=0)
    assert only(lines_of(x_page(x_post(public_metrics=None)))).counts.is_empty()
    metrics = {"like_count": 1, "bookmark_count": 2, "impression_count": 300}
    assert only(lines_of(x_page(x_post(public_metrics=metrics)))).counts == Counts(likes=1, bookmarks=2, views=300)
    assert only(lines_of(x_page(x_post(public_metrics={"like_count": -1, "reply_count": 2**70})))).counts.is_empty()


def test_without_the_time_of_collection_the_age_of_the_counts_is_unknown() -> None:
    assert only(lines_of(x_page(x_post(), __twarc=None))).counts_at is None
    assert only(lines_of(x_page(x_post(), __twarc={"retrieved_at": "yesterday"}))).counts_at is None


@pytest.mark.parametrize(
    ("references", "kind", "of_id", "reply_to_id", "quote_of_id"),
    [
        ([], "original", "", "", ""),
        ([("quoted", "1")], "quote", "1", "", "1"),
        ([("quoted", "1"), ("replied_to", "2")], "reply", "2", "2", "1"),
        ([("retweeted", "3")], "repost", "3", "", ""),
        ([("reposted", "3")], "repost", "3", "", ""),
    ],
)
def test_a_post_is_a_repost_else_a_reply_else_a_quote_else_original(
    references: list[tuple[str, str]], kind: str, of_id: str, reply_to_id: str, quote_of_id: str
) -> None:
    referenced = [{"type": type_, "id": id_} for type_, id_ in references]
    for name in ("referenced_tweets", "referenced_posts"):
        seen = only(lines_of(x_page(x_post() | {name: referenced})))
        assert (seen.kind, seen.of_id, seen.reply_to_id, seen.quote_of_id) == (kind, of_id, reply_to_id, quote_of_id)


def test_a_repost_has_no_counts_of_its_own_and_the_original_is_context_alone() -> None:
    batch = whole(lines_of(x_page(x_repost(), tweets=[x_post()])))
    (repost,), (original,) = batch.seen, batch.context
    assert repost.counts.is_empty()
    assert repost.text == "RT @pit_voices: Gold from small mi…"
    assert (original.native_id, original.counts.likes, original.counts_at) == ("100", 5, RETRIEVED)


def test_an_original_that_is_missing_leaves_the_counts_unknown() -> None:
    error = {"resource_type": "tweet", "resource_id": "100", "title": "Not Found Error"}
    batch = whole(lines_of(x_page(x_repost(), errors=[error])))
    assert (len(batch.seen), batch.context, batch.faults) == (1, [], [])
    assert batch.seen[0].counts.is_empty()


def test_a_repost_takes_the_tags_that_its_cut_text_lost_from_its_original() -> None:
    original = x_post(entities={"hashtags": [{"tag": "gold"}, {"tag": "shareASM"}]})
    assert only(lines_of(x_page(x_repost(), tweets=[original]))).tags == ("gold", "shareASM")
    cut = x_repost() | {"entities": {"hashtags": [{"tag": "gold"}]}}
    assert only(lines_of(x_page(cut, tweets=[original]))).tags == ("gold", "shareASM")
    assert only(lines_of(x_page(cut))).tags == ("gold",)


def test_a_quote_does_not_take_the_tags_of_what_it_quotes() -> None:
    quote = x_post("300", entities=None, referenced_tweets=[{"type": "quoted", "id": "100"}])
    assert only(lines_of(x_page(quote, tweets=[x_post()]))).tags == ()


def test_who_is_named_is_told_by_id_and_else_by_handle() -> None:
    named = [{"username": "Pit_Voices"}, {"username": "stranger"}, {"username": "known", "id": "9"}, {"id": None}]
    assert only(lines_of(x_page(x_post(entities={"mentions": named})))).mentions == ("7", "stranger", "9")


def test_links_are_unwound_as_far_as_x_unwound_them() -> None:
    urls = [
        {"url": "https://t.co/a", "expanded_url": "https://sh.rt/a", "unwound_url": "https://example.org/a"},
        {"url": "https://t.co/b", "expanded_url": "https://example.org/b"},
        {"url": "https://t.co/c"},
        {"url": "https://t.co/b", "expanded_url": "https://example.org/b"},
    ]
    assert only(lines_of(x_page(x_post(entities={"urls": urls})))).links == (
        "https://example.org/a",
        "https://example.org/b",
        "https://t.co/c",
    )


def test_media_are_named_by_their_keys() -> None:
    assert only(lines_of(x_page(x_post(attachments={"media_keys": ["3_1", "3_2"]})))).media == ("3_1", "3_2")
    assert only(lines_of(x_page(x_post(attachments={"media": [{"media_key": "3_1"}, None]})))).media == ("3_1",)


@pytest.mark.parametrize(
    ("lang", "language"), [("sw", "sw"), ("und", ""), ("qme", ""), ("qht", ""), ("zxx", ""), (None, ""), ("ckb", "ckb")]
)
def test_codes_that_name_no_language_are_none(lang: str | None, language: str) -> None:
    assert only(lines_of(x_page(x_post(lang=lang)))).language == language


def test_a_post_of_a_protected_account_is_not_public() -> None:
    assert not only(lines_of(x_page(x_post(), users=[x_user(protected=True)]))).public


def test_a_post_whose_author_x_did_not_send_is_kept_with_the_author_s_id() -> None:
    seen = only(lines_of(x_page(x_post(), users=[])))
    assert (seen.author.native_id, seen.author.handle, seen.author.followers) == ("7", "", None)
    assert seen.url == "https://x.com/i/status/100"


def test_ids_written_as_numbers_keep_all_their_digits() -> None:
    post = x_post("0", author_id=2**62 + 1, conversation_id=2**62 + 3) | {"id": 2**62 + 3}
    seen = only(lines_of(x_page(post)))
    assert (seen.native_id, seen.author.native_id, seen.root_id) == (str(2**62 + 3), str(2**62 + 1), str(2**62 + 3))


def test_an_id_that_lost_its_digits_is_refused() -> None:
    assert faults(b'{"data":[{"id":1.26426E+18,"author_id":"7","text":"a","created_at":"2015-06-25T12:00:00Z"}]}') == [
        1
    ]


@pytest.mark.parametrize(
    "lost", [{"id": None}, {"id": ""}, {"created_at": None}, {"created_at": "2015-06-25T12:00:00"}, {"author_id": None}]
)
def test_only_what_cannot_be_kept_is_a_fault_and_the_page_around_it_stays(lost: dict[str, Any]) -> None:
    batch = whole(lines_of(x_page(x_post("1"), x_post("2") | lost, x_post("3"))))
    assert [seen.native_id for seen in batch.seen] == ["1", "3"]
    assert [fault.line for fault in batch.faults] == [1]


def test_a_field_of_a_strange_shape_costs_that_field_alone() -> None:
    strange = x_post(
        public_metrics={"like_count": "many", "reply_count": 4},
        entities={"hashtags": [{"tag": 5}, {"tag": "shareASM"}, None, "x"], "urls": {}},
        attachments=[],
        referenced_tweets=[5, {"type": "quoted", "id": "1"}],
        edit_history_tweet_ids={"a": 1},
        lang=7,
    )
    seen = only(lines_of(x_page(strange)))
    assert (seen.tags, seen.links, seen.media, seen.language) == (("shareASM",), (), (), "")
    assert (seen.counts, seen.kind, seen.of_id) == (Counts(replies=4), "quote", "1")


def test_half_of_an_emoji_costs_one_character() -> None:
    post = json.dumps(x_post(text="cut \ud83d"))
    assert "\\ud83d" in post
    seen = only(f'{{"data": [{post}], "includes": null}}'.encode())
    assert seen.text == "cut \ufffd"
    assert only(json.dumps(x_post(text="whole \U0001f600 \\ud83d")).encode()).text == "whole \U0001f600 \\ud83d"


def test_bytes_that_are_no_utf_8_cost_one_character() -> None:
    assert only(json.dumps(x_post(text="caf~")).encode().replace(b"~", b"\xe9")).text == "caf\ufffd"


# ── twarc2: the shapes of lines ──────────────────────────────────────────────────────────────────────────────────────


def flattened(post: dict[str, Any], *shown: dict[str, Any]) -> dict[str, Any]:
    by_id = {other["id"]: other for other in shown}
    references = [ref | by_id.get(ref["id"], {}) for ref in post.get("referenced_tweets", [])]
    twarc = {"retrieved_at": "2015-06-26T06:30:00+00:00"}
    users = {"7": x_user(), "8": x_user("8", "relayer")}
    return post | {"author": users[post["author_id"]], "referenced_tweets": references, "__twarc": twarc}


def without_raw(seen: Seen) -> dict[str, Any]:
    return {name: getattr(seen, name) for name in Seen.__slots__ if name != "raw"}


def test_a_flattened_line_gives_the_same_as_a_page() -> None:
    original = flattened(x_post())
    paged = whole(lines_of(x_page(x_repost(), x_post("300"), tweets=[x_post()])))
    flat = whole(lines_of(flattened(x_repost(), original), flattened(x_post("300"))))
    assert [without_raw(seen) for seen in flat.seen] == [without_raw(seen) for seen in paged.seen]
    assert [without_raw(seen) for seen in flat.context] == [without_raw(seen) for seen in paged.context]
    assert (list(paged.lines), list(flat.lines)) == ([1, 1], [1, 2])


def test_a_post_caught_live_has_its_counts_at_its_own_moment() -> None:
    zeros = {"like_count": 0, "retweet_count": 0, "reply_count": 0, "quote_count": 0}
    live = x_post(public_metrics=zeros, referenced_tweets=[{"type": "quoted", "id": "50"}])
    line = x_page(tweets=[x_post("50")], matching_rules=[{"id": "1", "tag": "shareASM"}]) | {"data": live}
    batch = whole(lines_of(line))
    assert (batch.seen[0].counts, batch.seen[0].counts_at) == (Counts(0, 0, 0, 0), NOON)
    assert (batch.context[0].counts.likes, batch.context[0].counts_at) == (5, RETRIEVED)
    kept_by_others = line | {"__twarc": None}
    assert whole(lines_of(kept_by_others)).context[0].counts_at == NOON


def test_counts_are_a_cross_check_and_no_posts() -> None:
    hour = {"start": "2015-06-25T11:00:00.000Z", "end": "2015-06-25T12:00:00.000Z"}
    expected = [Counted("x", datetime(2015, 6, 25, 11, tzinfo=UTC), NOON, 41)]
    for row in (hour | {"tweet_count": 41}, hour | {"post_count": 41}):
        for content in (lines_of({"data": [row], "meta": {"total_tweet_count": 41}}), lines_of(row)):
            batch = whole(content)
            assert (batch.counted, batch.seen, batch.faults) == (expected, [], [])
    assert faults(lines_of({"data": [{"start": hour["start"], "tweet_count": 41}]})) == [1]


def test_compliance_lines_remove() -> None:
    gone = {"id": "100", "action": "delete", "created_at": "2015-06-25T12:00:00.000Z", "reason": "deleted"}
    batch = whole(b"\n" + lines_of(gone, gone | {"id": "101", "action": "undelete"}))
    assert (batch.removed, batch.seen, batch.faults) == ([Removed("x", "100")], [], [])


def test_accounts_and_lists_hold_no_posts() -> None:
    created = "2015-06-25T12:00:00.000Z"
    batch = whole(lines_of({"data": [x_user()], "meta": {}}, x_user(), {"data": [{"id": "1", "name": "miners"}]}))
    assert (batch.seen, batch.faults) == ([], [])
    assert whole(lines_of(x_user(created_at=created))).faults == []


def test_an_error_in_place_of_posts_is_a_fault_with_the_network_s_words() -> None:
    errors = [{"title": "operational-disconnect", "detail": "This stream has been disconnected."}, {"title": "more"}]
    batch = whole(lines_of({"errors": errors}, x_page(x_post()), x_page(x_post("2"), errors=errors)))
    assert [seen.native_id for seen in batch.seen] == ["100", "2"]
    (fault,) = batch.faults
    assert fault.line == 1
    assert "This stream has been disconnected." in fault.why


def test_a_page_without_results_is_no_fault() -> None:
    content = lines_of({"meta": {"result_count": 0}}, {"data": None, "meta": {}}, {"data": []}, {"__twarc": {}})
    assert faults(content) == []


def test_unknown_columns_stay_in_the_raw_record() -> None:
    seen = only(lines_of(x_page(x_post(community_id="5", note={"deep": [1]}), tomorrow={"a": 1})))
    assert json.loads(seen.raw)["note"] == {"deep": [1]}


def test_what_is_no_record_is_a_fault_with_its_line() -> None:
    strange = b'5\nnull\n"text"\n[]\n{}\n{"id":"1"}\n{"data":5}\n{"data":[5,null]}\nnonsense\n'
    batch = whole(strange + lines_of(x_page(x_post())))
    assert [fault.line for fault in batch.faults] == [1, 2, 3, 4, 5, 6, 7, 8, 8, 9]
    assert batch.lines == [10]
    assert all("Traceback" not in fault.why and fault.why.endswith(".") for fault in batch.faults)


def test_nesting_without_end_is_a_fault() -> None:
    assert faults(b'{"a":' + b"[" * 100_000 + b"\n" + lines_of(x_page(x_post()))) == [1]
    deep: Any = {"type": "quoted", "id": "1", "text": "a"}
    for number in range(200):
        deep = {"type": "quoted", "id": str(number + 2), "text": "a", "referenced_tweets": [deep]}
    assert len(whole(lines_of(flattened(x_post()) | {"referenced_tweets": [deep]})).seen) == 1


def test_a_cut_last_line_is_a_fault_and_the_rest_is_read() -> None:
    content = lines_of(x_page(x_post("1")), x_page(x_post("2")), x_page(x_post("3")))[:-60]
    batch = whole(content)
    assert [seen.native_id for seen in batch.seen] == ["1", "2"]
    assert [fault.line for fault in batch.faults] == [3]


def test_bom_windows_line_ends_and_blank_lines_change_nothing() -> None:
    content = lines_of(x_page(x_post("1")), x_page(x_post("2")))
    windows = BOM + b"\r\n" + content.replace(b"\n", b"\r\n\r\n")
    batch = whole(windows)
    assert [seen.native_id for seen in batch.seen] == ["1", "2"]
    assert (list(batch.lines), batch.faults) == ([2, 4], [])


def test_a_whole_file_that_is_one_array_reads_like_its_lines() -> None:
    posts = [flattened(x_post(str(number), text='[{"a\\"]')) for number in range(1, 4)]
    expected = [without_raw(seen) for seen in whole(lines_of(*posts)).seen]
    for content in (json.dumps(posts), json.dumps(posts, indent=2), "\n " + json.dumps(posts, indent=1) + "\n\n"):
        batch = whole(BOM + content.encode())
        assert [without_raw(seen) for seen in batch.seen] == expected
        assert (batch.faults, batch.bytes_read) == ([], len(content.encode()) + 3)


def test_pages_printed_over_many_lines_read_like_lines_and_know_where_they_begin() -> None:
    page = json.dumps(x_page(x_post()), indent="\t")
    batch = whole(f"{page}\n\n{page}\n".encode())
    assert [seen.native_id for seen in batch.seen] == ["100", "100"]
    assert list(batch.lines) == [1, page.count("\n") + 3]


@pytest.mark.parametrize("array", [True, False])
def test_a_printed_file_that_is_cut_is_one_fault(array: bool) -> None:
    values: Any = [flattened(x_post("1")), flattened(x_post("2"))]
    content = json.dumps(values if array else x_page(*values), indent=1).encode()
    assert faults(content) == []
    batch = whole(content[:-2].rstrip())
    assert len(batch.faults) == 1
    assert len(batch.seen) == (2 if array else 0)


def test_what_stands_between_the_elements_of_an_array_is_a_fault() -> None:
    content = b"[\n" + json.dumps(x_post("1")).encode() + b',\n"a", 5,\n[1],\n' + lines_of(x_post("2")) + b"]\n"
    batch = whole(content)
    assert [seen.native_id for seen in batch.seen] == ["1", "2"]
    assert [fault.line for fault in batch.faults] == [3, 4]


def test_a_batch_is_bounded_and_the_bytes_add_up() -> None:
    content = lines_of(*(flattened(x_post(str(number))) for number in range(1, 1202))) + b"\n\n"
    parts = batches(content)
    assert [len(part.seen) for part in parts] == [500, 500, 201]
    assert sum(part.bytes_read for part in parts) == len(content)
    assert [line for part in parts for line in part.lines] == list(range(1, 1202))


def test_a_line_longer_than_any_page_is_a_fault_and_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shareasm.archives._json.LONGEST_RECORD", 200_000)
    monkeypatch.setattr("shareasm.archives.twarc2.LONGEST_RECORD", 200_000)
    long = b'{"data": "' + b"a" * 1_000_000 + b'"}'
    content = long + b"\n" + lines_of(x_page(x_post()))
    assert (faults(content), whole(content).lines) == ([1], [2])
    printed = b"[\n" + long + b",\n" + json.dumps(flattened(x_post())).encode() + b"\n]\n"
    assert (faults(printed), whole(printed).lines) == ([2], [3])


def test_an_empty_file_is_a_collection_that_found_nothing() -> None:
    assert twarc2.recognises(b"")
    assert batches(b"") == []
    assert whole(b"\n \r\n").bytes_read == 4


# ── twarc2: edits ────────────────────────────────────────────────────────────────────────────────────────────────────


FIRST = x_post("100", edit_history_tweet_ids=["100"])
SECOND = x_post("101", created_at="2015-06-25T12:05:00Z", text="better", edit_history_tweet_ids=["100", "101"])
THIRD = x_post("102", created_at="2015-06-25T12:09:00Z", text="best", edit_history_tweet_ids=["100", "101", "102"])


@pytest.mark.parametrize("order", ["012", "021", "102", "120", "201", "210"])
def test_every_version_is_the_same_post_and_the_newest_is_the_text_in_any_order(order: str) -> None:
    versions = [(FIRST, SECOND, THIRD)[int(place)] for place in order]
    posts = whole(lines_of(*(x_page(version) for version in versions))).seen
    assert {post.native_id for post in posts} == {"100"}
    newest = max(posts, key=lambda post: (post.edited_at is not None, post.edited_at or NOON))
    assert newest.text == "best"
    assert newest.edited_at == datetime(2015, 6, 25, 12, 9, tzinfo=UTC)
    assert sum(post.edited_at is None for post in posts) == 1


def test_both_names_of_the_edit_history_are_read() -> None:
    post = {name.replace("tweet", "post"): value for name, value in SECOND.items()}
    seen = only(lines_of(x_page(post)))
    assert (seen.native_id, seen.edited_at) == ("100", datetime(2015, 6, 25, 12, 5, tzinfo=UTC))


def test_an_edited_post_keeps_the_moment_of_its_first_version_where_that_is_known() -> None:
    batch = whole(lines_of(x_page(SECOND, tweets=[FIRST, SECOND])))
    assert batch.seen[0].posted_at == NOON
    assert [seen.text for seen in batch.context] == [FIRST["text"]]
    assert batch.seen[0].root_id == "100"


def test_a_version_that_was_edited_away_has_no_counts() -> None:
    replaced = FIRST | {"edit_history_tweet_ids": ["100", "101"]}
    assert only(lines_of(x_page(replaced))).counts.is_empty()
    assert only(lines_of(x_page(SECOND))).counts.likes == 5


def test_a_repost_of_an_edited_post_leads_to_its_first_version() -> None:
    assert only(lines_of(x_page(x_repost(of="101"), tweets=[SECOND]))).of_id == "100"


def test_a_history_that_does_not_know_its_own_post_is_ignored() -> None:
    seen = only(lines_of(x_page(x_post("5", edit_history_tweet_ids=["1", "2"]))))
    assert (seen.native_id, seen.edited_at, seen.counts.likes) == ("5", None, 5)


# ── Telling formats ──────────────────────────────────────────────────────────────────────────────────────────────────


X_CONTENTS = [
    lines_of(x_page(x_post())),
    lines_of(flattened(x_post())),
    lines_of({"data": x_post(), "matching_rules": []}),
    lines_of({"data": [{"start": "2015-06-25T11:00:00Z", "end": "2015-06-25T12:00:00Z", "tweet_count": 1}]}),
    b"\n" + lines_of({"id": "1", "action": "delete", "created_at": "2015-06-25T12:00:00Z"}),
    lines_of({"data": [x_user()]}),
    lines_of(x_user()),
    lines_of({"errors": [{"type": "https://api.x.com/2/problems/resource-not-found"}]}),
    json.dumps([flattened(x_post())], indent=1).encode(),
    BOM + json.dumps(x_page(x_post()), indent=1).encode(),
    b'{"cut\n' + lines_of(x_page(x_post())),
    lines_of(x_page(*(x_post(str(number)) for number in range(2_000))))[: 256 * 1024],
]
OTHER_CONTENTS = [
    b"id_str,from_user,text,created_at,time\n1,a,b,c,d\n",
    lines_of({"id": "1", "content": "<p>hi</p>", "uri": "https://a.example/1", "account": {"id": "2"}}),
    lines_of({"id": 1, "id_str": "1", "text": "v1", "user": {"id": 2}, "created_at": "Thu Jun 25 09:00:00 +0000 2015"}),
    lines_of({"type": "OrderedCollection", "orderedItems": []}),
    lines_of({"4CAT_metadata": {}, "id": "1", "text": "a", "author_id": "2"}),
    b"PK\x03\x04",
    b"window.YTD.tweets.part0 = [{}]",
    b"\x00\xff" * 100,
    b"[]",
]


@pytest.mark.parametrize("content", X_CONTENTS, ids=range(len(X_CONTENTS)))
def test_twarc2_is_told_by_its_content(content: bytes) -> None:
    assert twarc2.recognises(content)
    assert recognise(content, Path("any.name")).NAME == "twarc2"


@pytest.mark.parametrize("content", OTHER_CONTENTS, ids=range(len(OTHER_CONTENTS)))
def test_other_formats_are_not_twarc2(content: bytes) -> None:
    assert not twarc2.recognises(content)
    assert not jetstream.recognises(content)


def test_a_content_that_no_format_knows_is_refused_in_words() -> None:
    with pytest.raises(ArchiveError, match=r"odd\.bin: No format .* It reads .*twarc2"):
        recognise(b"\x00\x01\x02", Path("odd.bin"))


def test_every_format_is_found_by_its_name() -> None:
    assert {"jetstream", "twarc2"} <= set(names())
    assert [archive(name).NAME for name in names()] == list(names())
    with pytest.raises(ArchiveError, match="Known are"):
        archive("parchment")


# ── Opening ──────────────────────────────────────────────────────────────────────────────────────────────────────────


PLAIN = lines_of(*(x_page(x_post(str(number))) for number in range(300)))


def zipped(files: dict[str, bytes]) -> bytes:
    folder = io.BytesIO()
    with zipfile.ZipFile(folder, "w", zipfile.ZIP_DEFLATED) as writer:
        for name, content in files.items():
            writer.writestr(name, content)
    return folder.getvalue()


FOLDED = {
    "plain": PLAIN,
    "gz": gzip.compress(PLAIN),
    "gz of two members": gzip.compress(PLAIN[:1000]) + gzip.compress(PLAIN[1000:]),
    "zst": zstandard.compress(PLAIN),
    "zst of two frames": zstandard.compress(PLAIN[:1000]) + zstandard.compress(PLAIN[1000:]),
    "zst after a skipped frame": b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc" + zstandard.compress(PLAIN),
    "zip": zipped({"posts": PLAIN}),
    "zip made on a Mac": zipped({"in/posts": PLAIN, "in/": b"", "__MACOSX/posts": b"clutter"}),
}


@pytest.mark.parametrize("way", FOLDED)
def test_a_compressed_file_reads_like_the_plain_one_whatever_its_name(way: str, tmp_path: Path) -> None:
    file = tmp_path / "posts.txt"
    file.write_bytes(FOLDED[way])
    with open_content(file) as content:
        assert content.read() == PLAIN
    assert head_of(file) == PLAIN[: 256 * 1024]
    with open_content(file) as content:
        assert sum(len(batch.seen) for batch in twarc2.read(content)) == 300


@pytest.mark.parametrize("way", ["gz", "zst", "zip"])
def test_a_cut_compressed_file_says_so_after_what_came_before_the_cut(way: str, tmp_path: Path) -> None:
    posts = [x_page(x_post(str(number), text=hex(hash((number, way)) ** 9))) for number in range(2_000)]
    content = lines_of(*posts)
    folded = {"gz": gzip.compress, "zst": zstandard.compress, "zip": lambda data: zipped({"posts": data})}[way](content)
    file = tmp_path / "cut"
    damaged = bytearray(folded if way == "zip" else folded[: len(folded) * 2 // 3])
    if way == "zip":
        damaged[len(folded) * 2 // 3] ^= 0xFF
    file.write_bytes(damaged)
    kept = 0
    with (
        open_content(file) as stream,
        pytest.raises(ArchiveError, match=r"cut: This compressed file is damaged or cut"),
    ):
        for batch in twarc2.read(stream):
            kept += len(batch.seen)
    assert 500 <= kept < 2_000


def zeros(size: int) -> Iterator[bytes]:
    for _ in range(size // 2**20):
        yield bytes(2**20)


def bomb(way: str, file: Path, size: int = 128 * 2**20) -> Path:
    if way == "gz":
        with gzip.open(file, "wb") as stream:
            stream.writelines(zeros(size))
    elif way == "zst":
        with file.open("wb") as raw, zstandard.ZstdCompressor().stream_writer(raw) as stream:
            for piece in zeros(size):
                stream.write(piece)
    else:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as folder, folder.open("posts", "w") as stream:
            for piece in zeros(size):
                stream.write(piece)
    return file


@pytest.mark.parametrize("way", ["gz", "zst", "zip"])
def test_a_bomb_is_refused_before_it_fills_anything(way: str, tmp_path: Path) -> None:
    file = bomb(way, tmp_path / "bomb")
    assert file.stat().st_size < 140_000
    unfolded = 0
    with (
        open_content(file) as content,
        pytest.raises(ArchiveError, match=r"unfolds to more than .* unpack it yourself"),
    ):
        while piece := content.read(2**16):
            unfolded += len(piece)
    assert unfolded <= 64 * 2**20


def test_there_is_an_absolute_limit_beside_the_ratio(tmp_path: Path) -> None:
    file = tmp_path / "posts.gz"
    file.write_bytes(gzip.compress(PLAIN))
    with open_content(file, most_bytes=len(PLAIN)) as content:
        assert content.read() == PLAIN
    with open_content(file, most_bytes=len(PLAIN) - 1) as content, pytest.raises(ArchiveError, match="unfolds to more"):
        content.read()


def test_a_zip_of_several_files_or_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "many.zip"
    for content, words in ((zipped({"a": b"1", "b": b"2"}), "holds 2 files"), (zipped({}), "holds 0 files")):
        file.write_bytes(content)
        with pytest.raises(ArchiveError, match=words):
            open_content(file)
    file.write_bytes(zipped({"a": b"1"})[:-10])
    with pytest.raises(ArchiveError, match="damaged"):
        open_content(file)


def test_a_locked_zip_is_refused(tmp_path: Path) -> None:
    content = bytearray(zipped({"a": b"1"}))
    content[content.index(b"PK\x01\x02") + 8] |= 1
    file = tmp_path / "locked.zip"
    file.write_bytes(content)
    with pytest.raises(ArchiveError, match="locked with a password"):
        open_content(file)


def test_what_is_no_file_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"nowhere: There is no such file\."):
        open_content(tmp_path / "nowhere")
    with pytest.raises(ArchiveError, match="This is a folder"):
        open_content(tmp_path)
    with pytest.raises(ArchiveError, match="not an ordinary file"):
        open_content(Path("/dev/zero"))


# ── Jetstream ────────────────────────────────────────────────────────────────────────────────────────────────────────


DID = "did:plc:invented"
PARENT = "at://did:plc:other/app.bsky.feed.post/aaa"
ROOT = "at://did:plc:other/app.bsky.feed.post/root"
CAME_AT = datetime(2015, 6, 25, 12, 0, 2, tzinfo=UTC)


def event(collection: str = "post", operation: str = "create", rkey: str = "3kabc", **record: Any) -> dict[str, Any]:
    commit: dict[str, Any] = {"operation": operation, "collection": f"app.bsky.feed.{collection}", "rkey": rkey}
    if operation != "delete":
        commit["record"] = {"createdAt": "2015-06-25T12:00:00.000Z", "text": "Fair gold", **record}
    return {"did": DID, "time_us": round(CAME_AT.timestamp() * 1e6), "kind": "commit", "commit": commit}


def test_a_post_in_the_stream_is_read_with_what_its_facets_tell() -> None:
    features = [{"tag": "shareASM"}, {"uri": "https://example.org/a"}, {"did": "did:plc:named"}, {"tag": None}, {}]
    seen = only(
        lines_of(event(langs=["sw", "en"], facets=[{"features": features}, None], tags=["gold", "shareASM"])), jetstream
    )
    assert (seen.network, seen.native_id) == ("bluesky", f"at://{DID}/app.bsky.feed.post/3kabc")
    assert (seen.author.native_id, seen.author.followers, seen.kind, seen.posted_at) == (DID, None, "original", NOON)
    assert (seen.tags, seen.links, seen.mentions) == (
        ("shareASM", "gold"),
        ("https://example.org/a",),
        ("did:plc:named",),
    )
    assert (seen.language, seen.root_id, seen.edited_at) == ("sw", seen.native_id, None)
    assert seen.url == f"https://bsky.app/profile/{DID}/post/3kabc"


def test_the_stream_tells_no_counts() -> None:
    seen = only(lines_of(event()), jetstream)
    assert (seen.counts.is_empty(), seen.counts_at) == (True, None)


def test_replies_quotes_and_reposts_in_the_stream() -> None:
    reply = {"parent": {"uri": PARENT}, "root": {"uri": ROOT}}
    quote = {"$type": "app.bsky.embed.record", "record": {"uri": PARENT}}
    with_media = {
        "record": {"record": {"uri": PARENT}},
        "media": {"images": [{"image": {"ref": {"$link": "bafy1"}}}], "external": {"uri": "https://example.org/b"}},
    }
    feed = {"record": {"uri": "at://did:plc:other/app.bsky.feed.generator/a"}}
    posts = whole(
        lines_of(
            event(reply=reply, embed=quote),
            event(embed=quote),
            event(embed=with_media),
            event(embed=feed),
            event("repost", subject={"uri": PARENT}, text=None),
        ),
        jetstream,
    ).seen
    assert [(post.kind, post.of_id) for post in posts] == [
        ("reply", PARENT),
        ("quote", PARENT),
        ("quote", PARENT),
        ("original", ""),
        ("repost", PARENT),
    ]
    assert (posts[0].root_id, posts[0].quote_of_id) == (ROOT, PARENT)
    assert (posts[2].media, posts[2].links) == (("bafy1",), ("https://example.org/b",))
    assert posts[4].native_id == f"at://{DID}/app.bsky.feed.repost/3kabc"


@pytest.mark.parametrize(
    ("created_at", "posted_at"),
    [
        ("2015-06-25T13:00:00+02:00", datetime(2015, 6, 25, 11, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", CAME_AT),
        ("0001-01-01T00:00:00+05:00", CAME_AT),
        ("2999-01-01T00:00:00Z", CAME_AT),
        ("2015-06-25T12:00:00", CAME_AT),
        ("soon", CAME_AT),
        (None, CAME_AT),
    ],
)
def test_a_time_that_cannot_be_is_the_moment_the_stream_saw_it(created_at: str | None, posted_at: datetime) -> None:
    assert only(lines_of(event(createdAt=created_at)), jetstream).posted_at == posted_at


def test_an_update_replaces_and_a_delete_removes() -> None:
    batch = whole(lines_of(event(operation="update"), event(operation="delete"), event("like")), jetstream)
    assert [seen.edited_at for seen in batch.seen] == [CAME_AT]
    assert batch.removed == [Removed("bluesky", f"at://{DID}/app.bsky.feed.post/3kabc")]


def test_likes_follows_and_names_are_no_mentions() -> None:
    follow = {"did": DID, "time_us": 1, "kind": "commit", "commit": {"collection": "app.bsky.graph.follow"}}
    identity = {"did": DID, "time_us": 1, "kind": "identity", "identity": {"did": DID}}
    gone = {"did": DID, "time_us": 1, "kind": "account", "account": {"active": False}}
    batch = whole(lines_of(event("like"), follow, identity, gone), jetstream)
    assert (batch.seen, batch.faults) == ([], [])
    assert batch.accounts == [AccountChanged("bluesky", DID, active=False)]


def test_an_author_who_asks_not_to_be_shown_to_strangers_is_not_named() -> None:
    labels = {"values": [{"val": "!no-unauthenticated"}]}
    assert not only(lines_of(event(labels=labels)), jetstream).author.may_be_named


def test_broken_events_are_faults_with_their_lines() -> None:
    nameless = event() | {"did": None}
    keyless = event(rkey="")
    empty = event() | {"commit": {"operation": "create", "collection": "app.bsky.feed.post", "rkey": "a"}}
    timeless = event(createdAt=None) | {"time_us": None}
    repost = event("repost", subject=None)
    content = lines_of(nameless, keyless, empty, timeless, repost, event()) + b'{"did":"did:plc:cut'
    batch = whole(content, jetstream)
    assert [fault.line for fault in batch.faults] == [1, 2, 3, 4, 5, 7]
    assert (list(batch.lines), batch.bytes_read) == ([6], len(content))


def test_the_stream_is_told_by_its_content() -> None:
    assert jetstream.recognises(b"\n" + lines_of(event("like")))
    assert not jetstream.recognises(lines_of(x_page(x_post())))
    assert not jetstream.recognises(b"")
    assert recognise(lines_of(event()), Path("any.name")).NAME == "jetstream"


# ── Anything at all ──────────────────────────────────────────────────────────────────────────────────────────────────


X_KEYS = [*x_page(matching_rules=[]), *x_post(), "author", "referenced_tweets", "edit_history_tweet_ids"]
EVENT_KEYS = [*event(), *event()["commit"], "createdAt", "text", "facets", "embed", "account", "active"]
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.just("2015-06-25T12:00:00Z"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*X_KEYS, *EVENT_KEYS]), inner, max_size=5)
    ),
    max_leaves=20,
)
PIECES = st.sampled_from(
    [b"[", b"]", b"{", b"}", b'"', b"\\", b",", b"\n", b" ", b'"a":', b"1", b"\xff", b'{"id":"1"}']
)
READERS: list[Archive] = [twarc2, jetstream]


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.NAME)
@given(content=st.binary(max_size=300) | st.lists(PIECES, max_size=40).map(b"".join))
@settings(deadline=None)
def test_any_bytes_are_read_to_their_end_without_an_exception(reader: Archive, content: bytes) -> None:
    batch = whole(content, reader)
    reader.recognises(content)
    assert len(batch.lines) == len(batch.seen)
    assert batch.bytes_read == len(content)
    assert all(1 <= fault.line <= content.count(b"\n") + 1 for fault in batch.faults)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.NAME)
@given(values=st.lists(JSON_VALUES, min_size=1, max_size=4), indent=st.sampled_from([None, 1]))
@settings(deadline=None)
def test_any_json_is_read_without_an_exception(reader: Archive, values: list[Any], indent: int | None) -> None:
    content = "\n".join(json.dumps(value, indent=indent) for value in values).encode()
    batch = whole(content, reader)
    reader.recognises(content)
    assert batch.bytes_read == len(content)


@given(data=st.data())
@settings(deadline=None)
def test_a_page_with_one_strange_field_keeps_its_other_posts(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(x_post())))
    strange = x_post("2") | {name: data.draw(JSON_VALUES)}
    batch = whole(lines_of(x_page(x_post("1"), strange, x_post("3"))))
    assert {"1", "3"} <= {seen.native_id for seen in batch.seen}
    assert len(batch.seen) + len(batch.faults) >= 2
