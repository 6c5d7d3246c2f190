"""Measures: the mini day of measures.md, cell by cell, and what a measure promises when somebody did not listen."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shareasm.errors import DeskError, PlanError
from shareasm.measure import Result, as_json, definitions, measure
from shareasm.measure.cells import HIDDEN, SMALL, hide_small, hide_small_table
from shareasm.measure.coverage import coverage_of, uncovered
from shareasm.measure.frames import (
    contributor_frame,
    gap_frame,
    language_frame,
    network_frame,
    own_posts_frame,
    post_frame,
    timeline_frame,
    window,
)
from shareasm.measure.reading import Reading
from shareasm.measure.timeline import DAY, MOST_POINTS, bucket_for, points
from shareasm.measure.words import LANGUAGES, in_order, percent, readable, share, two_digits
from shareasm.model import Author, Campaign, Counts, Frozen, Hole, Kind, Post, Receipt, Removed, Seen, Timings
from shareasm.store import Store, open_store
from shareasm.store.conversation import Candidate, Intake
from shareasm.store.posts import Approval
from shareasm.store.rollups import rebuild

FOLDER = "mini-day"
DAY_OF = datetime(2015, 6, 25, tzinfo=UTC)
NOON = DAY_OF + timedelta(hours=12)
OURS = frozenset({("x", "iied")})
CAMPAIGN = Campaign(
    folder=FOLDER,
    name="The mini day",
    hashtags=("shareASM",),
    start=DAY_OF - timedelta(hours=1),
    end=DAY_OF + timedelta(hours=23),
    time_zone="Europe/London",
)
FOLLOWERS = {"iied": 1_000, "ana": 50, "gov": 300, "bea": 40, "ras": 200, "joe": None, "kim": 20}


def at(clock: str) -> datetime:
    """The moment of the mini day at this time in UTC."""
    hours, minutes = clock.split(":")
    return DAY_OF + timedelta(hours=int(hours), minutes=int(minutes))


def post(
    native_id: str,
    clock: str,
    network: str,
    author: str,
    kind: Kind = "original",
    *,
    of: str = "",
    counts: Counts = Counts(),  # noqa: B008 - frozen
    **seen: Any,
) -> Seen:
    """One post of the mini day as a source shows it."""
    who = Author(native_id=author, handle=author, name=author.title(), followers=FOLLOWERS.get(author))
    return Seen(
        network=network, native_id=native_id, author=who, kind=kind, posted_at=at(clock), text=f"{native_id} #shareASM",
        of_id=of, reply_to_id=of if kind == "reply" else "", quote_of_id=of if kind == "quote" else "", counts=counts,
        **seen,
    )  # fmt: skip


MENTIONS = [
    (post("m1", "08:00", "x", "iied", counts=Counts(4, 2, 1, 0, None, 900)), "en"),
    (post("m2", "08:05", "x", "ana", "repost", of="m1"), ""),
    (post("m3", "08:10", "x", "gov", "repost", of="m1"), ""),
    (post("m4", "08:20", "x", "ana", "reply", of="m1", counts=Counts(1, 0, 1, 0)), "sw"),
    (post("m5", "09:00", "bluesky", "bea", counts=Counts(0, 0, 1, 1)), "sw"),
    (post("m6", "09:30", "bluesky", "ras", "quote", of="m5", counts=Counts(2, 0, 0, 0)), "en"),
    (post("m7", "09:40", "bluesky", "joe", "reply", of="m5", counts=Counts(0, 0, 0, 0)), "unsure"),
    (post("m8", "10:00", "mastodon", "kim"), "en"),
]
TALK = post("c1", "10:05", "x", "iied", "reply", of="m4")


def candidates(network: str) -> list[Candidate]:
    """The mentions of one network, as the campaign's rules see them."""
    return [Candidate(seen, spelling="shareASM", language=code) for seen, code in MENTIONS if seen.network == network]


def put(store: Store, network: str, intake: Intake, *, server: str = "", when: datetime = NOON) -> None:
    """Let one source of a network bring a page."""
    campaign_id = store.campaigns.id_of(FOLDER)
    source_id = store.sources.open(campaign_id, network, server or f"{network}.example", "#shareASM")
    store.conversation.put(campaign_id, source_id, intake, at=when, own_handles=OURS)


class Fixed:
    """A clock that stands."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return 0.0


def publish(store: Store, name: str, text: str, *, network: str = "x", url: str = "", remote_id: str = "") -> None:
    """Let one of our posts go out at 08:00 UTC."""
    clock, account = Fixed(at("08:00")), f"org-{network}"
    planned = Post(
        id=f"{name}.en", message=name, language="en", due_at=clock.now(), due_local="2015-06-25T09:00",
        time_zone="Europe/London", accounts=(account,), parts={"": (text,)}, ready=True,
    )  # fmt: skip
    campaign_id = store.campaigns.id_of(FOLDER)
    store.posts.sync(campaign_id, [*(known.post for known in store.posts.all(FOLDER)), planned], {}, at=DAY_OF)
    frozen = Frozen(network, account, text, "en", 1, 1, clock.now(), f"key-{name}-{network}")
    approvals = [Approval(f"{name}-{network}", frozen)]
    store.posts.approve(campaign_id, planned.id, planned.revision_hash, approvals, by="ana", role="approver", at=DAY_OF)
    delivery = store.queue.claim(account, "worker", clock, Timings())
    assert delivery is not None
    assert store.queue.intent(delivery, {"text": text}, "worker", clock, Timings())
    store.queue.confirm(delivery, "worker", Receipt(remote_id or f"id-{name}", url), clock)


@pytest.fixture
def empty(database_url: str) -> Iterator[Store]:
    """A desk that knows the campaign and has heard nothing."""
    store = open_store(database_url)
    store.campaigns.save(CAMPAIGN, NOON)
    yield store
    store.close()


@pytest.fixture
def mini_day(empty: Store) -> Store:
    """The mini day, collected from three networks up to noon."""
    return with_mini_day(empty)


def with_mini_day(store: Store) -> Store:
    """Put the mini day into a store that knows its campaign."""
    for network in ("x", "bluesky", "mastodon"):
        put(store, network, Intake(candidates=candidates(network), complete_until=NOON))
    put(store, "x", Intake(candidates=[Candidate(TALK, language="en")], complete_until=NOON))
    return store


def taken(store: Store, name: str, *, now: datetime = NOON) -> Result:
    """One measure, now."""
    (result,) = measure(store, FOLDER, [name], now=now)
    return result


def value(store: Store, name: str, *, now: datetime = NOON) -> Any:
    """The value of one measure, now."""
    return taken(store, name, now=now).value


# The mini day


def test_mentions_are_counted_by_kind_and_conversation_stands_apart(mini_day: Store) -> None:
    assert value(mini_day, "mentions") == {
        "total": 8, "spoken": 6, "reposts": 2, "original": 3, "reply": 2, "quote": 1, "conversation": 1, "deleted": 0,
    }  # fmt: skip


def test_contributors_speak_or_only_repost(mini_day: Store) -> None:
    assert value(mini_day, "contributors") == {"total": 7, "speaking": 6, "only_reposting": 1, "ours": 1}


def test_engagements_say_of_how_many_posts_they_know(mini_day: Store) -> None:
    found = taken(mini_day, "engagements")
    assert {name: found.value[name] for name in ("total", "likes", "reposts", "replies", "quotes")} == {
        "total": 13, "likes": 7, "reposts": 2, "replies": 3, "quotes": 1,
    }  # fmt: skip
    assert (found.value["posts"], found.value["of_posts"]) == (5, 6)
    assert found.value["carried_in"] == {
        "total": None, "likes": None, "reposts": None, "replies": None, "quotes": None, "posts": 0, "of_posts": 0,
        "known": {"likes": 0, "reposts": 0, "replies": 0, "quotes": 0},
    }  # fmt: skip
    assert found.coverage.words.endswith(" · 5 of 6 posts")


def test_seen_counts_views_and_names_who_gives_none(mini_day: Store) -> None:
    assert value(mini_day, "reach")["seen"] == {
        "views": 900, "posts": 1, "of_posts": 6, "given_by_none_of": ["Mastodon", "Bluesky"],
    }  # fmt: skip


def test_acted_leaves_our_own_accounts_out(mini_day: Store) -> None:
    assert value(mini_day, "reach")["acted"] == {"at_least": 6}


def test_could_have_seen_is_an_interval_per_network_added_as_accounts(mini_day: Store) -> None:
    could = value(mini_day, "reach")["could_have_seen"]
    lines = {line["network"]: (line["at_least"], line["at_most"]) for line in could.pop("networks")}
    assert lines == {"mastodon": (20, 20), "bluesky": (200, 240), "x": (1_000, 1_350)}
    assert could == {
        "at_least": 1_220, "at_most": 1_610, "estimate": [1_200, 1_600], "accounts": 6, "of_accounts": 7,
    }  # fmt: skip


def test_concentration_says_what_hangs_on_the_largest(mini_day: Store) -> None:
    assert value(mini_day, "reach")["concentration"] == {
        "top_1": 0.62, "top_5": 0.99, "only_reposting": 0.19,
        "without_largest": {"at_least": 520, "at_most": 610, "estimate": [520, 610]},
    }  # fmt: skip


def test_the_second_largest_is_found_though_it_is_not_among_the_five(mini_day: Store) -> None:
    crowd = [
        post(f"b{n}", "11:00", "bluesky", f"crowd{n}") for n in range(5)
    ]  # each has more followers than anyone on X but iied
    big = [replace(seen, author=replace(seen.author, followers=900)) for seen in crowd]
    put(mini_day, "bluesky", Intake(candidates=[Candidate(seen, "shareASM", "en") for seen in big]))
    without = value(mini_day, "reach")["concentration"]["without_largest"]
    assert without["at_least"] == 300 + 900 + 20
    assert without["at_most"] == 350 + 240 + 5 * 900 + 20


def test_the_timeline_counts_each_hour(mini_day: Store) -> None:
    hours = points(Reading(mini_day, FOLDER, NOON), bucket_minutes=60)
    by_hour: dict[int, int] = {}
    for point in hours:
        by_hour[point.at.hour] = by_hour.get(point.at.hour, 0) + (point.spoken or 0) + (point.reposts or 0)
    assert by_hour == {8: 4, 9: 3, 10: 1}


def test_the_timeline_adds_up_to_the_mentions(mini_day: Store) -> None:
    rows = value(mini_day, "timeline")
    assert rows[0] == {"at": at("08:00"), "network": "mastodon", "spoken": 0, "reposts": 0}
    assert sum(row["spoken"] + row["reposts"] for row in rows) == 8
    assert len(rows) == 3 * 121


@pytest.mark.parametrize("bucket", [1, 15, 60, DAY, 7 * DAY])
def test_every_bucket_size_adds_up_to_the_same(mini_day: Store, bucket: int) -> None:
    frame = timeline_frame(Reading(mini_day, FOLDER, NOON), bucket_minutes=bucket)
    assert int(frame["mentions"].sum()) == 8
    assert int(frame["spoken"].sum()) == 6
    assert len(frame) <= MOST_POINTS


def test_a_day_is_the_campaigns_local_day(empty: Store) -> None:
    empty.campaigns.save(replace(CAMPAIGN, time_zone="Asia/Kolkata"), NOON)
    with_mini_day(empty)
    reading = Reading(empty, FOLDER, NOON)
    assert {point.at for point in points(reading, bucket_minutes=DAY)} == {DAY_OF - timedelta(hours=5, minutes=30)}
    assert {point.at.minute for point in points(reading, bucket_minutes=60)} == {30}
    assert {point.at.weekday() for point in points(reading, bucket_minutes=7 * DAY)} == {6}  # Sunday 18:30 UTC


def test_languages_are_shared_out_and_unsure_is_a_row(mini_day: Store) -> None:
    assert [(row["language"], row["name"], row["spoken"]) for row in value(mini_day, "by_language")] == [
        ("en", "English", 3), ("sw", "Swahili", 2), ("unsure", "unsure", 1),
    ]  # fmt: skip


def test_networks_stand_in_their_fixed_order(mini_day: Store) -> None:
    rows = value(mini_day, "by_network")
    assert [(r["name"], r["spoken"], r["reposts"], r["contributors"], r["ours"], r["share"]) for r in rows] == [
        ("Mastodon", 1, 0, 1, 0, 0.17), ("Bluesky", 3, 0, 3, 0, 0.5), ("X", 2, 2, 3, 1, 0.33),
    ]  # fmt: skip


def test_top_posts_are_ranked_by_engagements_and_ties_by_time(mini_day: Store) -> None:
    found = [(row["text"].split()[0], row["engagements"]) for row in value(mini_day, "top_posts")]
    assert found == [("m1", 7), ("m4", 2), ("m5", 2), ("m6", 2), ("m7", 0)]


def test_top_contributors_mark_ours_and_know_what_nobody_told(mini_day: Store) -> None:
    rows = {row["handle"]: row for row in value(mini_day, "top_contributors")}
    assert next(iter(rows)) == "ana"
    assert {name: row["ours"] for name, row in rows.items() if row["ours"]} == {"iied": True}
    assert rows["joe"]["followers"] is None
    assert rows["kim"]["engagements"] is None
    assert rows["iied"]["engagements"] == 7


def test_the_rollups_are_what_the_mentions_say(mini_day: Store) -> None:
    differing = rebuild(mini_day.database, mini_day.campaigns.id_of(FOLDER))
    assert set(differing.values()) == {0}


# Deletions, and those who do not want to be named


def test_a_deleted_mention_stays_in_the_total_and_leaves_every_list(mini_day: Store) -> None:
    put(mini_day, "bluesky", Intake(removed=[Removed("bluesky", "m5")]))
    put(mini_day, "mastodon", Intake(removed=[Removed("mastodon", "m8")]))
    found = value(mini_day, "mentions")
    assert (found["total"], found["deleted"]) == (8, 2)
    assert value(mini_day, "contributors")["total"] == 7
    assert not any(row["text"].startswith("m5") for row in value(mini_day, "top_posts"))
    assert {"kim", "bea"}.isdisjoint(row["handle"] for row in value(mini_day, "top_contributors"))


def test_who_asked_not_to_be_shown_is_counted_and_never_named(mini_day: Store) -> None:
    shy = post("s1", "10:30", "mastodon", "shy", counts=Counts(90, 1, 1, 0))
    shy = replace(shy, author=replace(shy.author, may_be_named=False), url="https://mastodon.example/@shy/1")
    put(mini_day, "mastodon", Intake(candidates=[Candidate(shy, "shareASM", "en")]))
    assert value(mini_day, "mentions")["total"] == 9
    assert "shy" not in str(value(mini_day, "top_posts")) + str(value(mini_day, "top_contributors"))
    assert value(mini_day, "top_posts")[0]["engagements"] == 92


def test_an_original_seen_only_through_its_repost_is_carried_in(mini_day: Store) -> None:
    original = Candidate(post("far", "07:00", "x", "far", counts=Counts(1_000, 50, 5, 5, None, 9_000)), "shareASM")
    relay = Candidate(post("far-2", "09:00", "x", "ana", "repost", of="far"))
    put(mini_day, "x", Intake(candidates=[relay], context=[original]))
    found = value(mini_day, "engagements")
    assert (found["likes"], found["posts"], found["of_posts"]) == (1_007, 6, 7)
    assert (found["carried_in"]["total"], found["carried_in"]["posts"]) == (1_060, 1)
    assert value(mini_day, "mentions")["spoken"] == 6
    assert value(mini_day, "reach")["seen"]["views"] == 9_900


def test_reposts_that_the_network_reports_and_nobody_saw_are_said(mini_day: Store) -> None:
    loud = Candidate(post("m9", "10:10", "x", "loud", counts=Counts(0, 12, 0, 0)), "shareASM", "en")
    put(mini_day, "x", Intake(candidates=[loud]))
    assert taken(mini_day, "mentions").coverage.words.endswith(" · X: 2 of 14 reposts seen")


# Nobody listened


def test_what_nobody_listened_to_is_unknown_and_never_zero(empty: Store) -> None:
    assert {result.name: result.value for result in measure(empty, FOLDER, now=NOON)} == dict.fromkeys(definitions())
    assert taken(empty, "mentions").coverage.words == "Nothing collected yet"


def test_a_source_that_was_never_read_leaves_everything_unknown(empty: Store) -> None:
    campaign_id = empty.campaigns.id_of(FOLDER)
    source_id = empty.sources.open(campaign_id, "x", "https://api.x.com", "#shareASM")
    empty.sources.failed(source_id, NOON, "no credits", stopped=True)
    found = taken(empty, "mentions")
    assert found.value is None
    assert found.coverage.words == "Not complete yet · X: stopped (no credits), 1 gap"


def test_silence_that_was_listened_to_is_zero(empty: Store) -> None:
    put(empty, "bluesky", Intake(complete_until=NOON))
    assert value(empty, "mentions")["total"] == 0
    assert value(empty, "contributors")["total"] == 0
    assert value(empty, "engagements")["total"] is None
    assert value(empty, "reach")["could_have_seen"]["at_most"] is None
    assert value(empty, "reach")["concentration"]["top_1"] is None
    assert value(empty, "timeline") == []


def test_a_network_that_could_not_be_read_is_unknown_beside_one_that_was(mini_day: Store) -> None:
    campaign_id = mini_day.campaigns.id_of(FOLDER)
    mini_day.sources.failed(mini_day.sources.open(campaign_id, "threads", "threads.example", ""), NOON, "no answer")
    row = value(mini_day, "by_network")[-1]
    assert (row["network"], row["spoken"], row["contributors"]) == ("threads", None, None)


# Coverage


def test_the_coverage_line_says_how_far_each_network_is_complete(mini_day: Store) -> None:
    words = coverage_of(Reading(mini_day, FOLDER, NOON)).words
    assert words == "Complete until 12:00 UTC · Mastodon: partial by nature · Bluesky: complete · X: complete"


def test_a_gap_is_named_with_its_length_and_opens_the_figure(mini_day: Store) -> None:
    assert not taken(mini_day, "mentions").coverage.is_open
    hole = Hole(at("10:00"), at("10:07"), "server unreachable")
    put(mini_day, "bluesky", Intake(holes=[hole], complete_until=NOON))
    found = taken(mini_day, "mentions").coverage
    assert "Bluesky: 1 gap, 7 min" in found.words
    assert found.is_open
    assert [(gap.network, gap.from_at, gap.to_at, gap.why) for gap in found.gaps] == [
        ("bluesky", at("10:00"), at("10:07"), "server unreachable")
    ]


def test_an_import_is_counted_in_files_and_practice_is_named(empty: Store) -> None:
    campaign_id = empty.campaigns.id_of(FOLDER)
    imported = empty.sources.open(campaign_id, "x", "kpop.jsonl", "", state="as imported")
    empty.conversation.put(campaign_id, imported, Intake(candidates=candidates("x")), at=NOON)
    put(empty, "practice", Intake(complete_until=NOON))
    later = NOON + timedelta(days=400)
    assert coverage_of(Reading(empty, FOLDER, NOON)).words == (
        "Complete until 12:00 UTC · practice: complete · imported: 1 file"
    )
    assert coverage_of(Reading(empty, FOLDER, later)).words.startswith("Complete until 25 June 2015 12:00 UTC")


def test_two_servers_cover_each_other_and_the_line_counts_them(mini_day: Store) -> None:
    put(mini_day, "mastodon", Intake(complete_until=NOON), server="second.example")
    campaign_id = mini_day.campaigns.id_of(FOLDER)
    second = mini_day.sources.open(campaign_id, "mastodon", "second.example", "")
    mini_day.sources.failed(second, NOON + timedelta(minutes=9), "server unreachable")
    reading = Reading(mini_day, FOLDER, NOON)
    assert "Mastodon: 2 servers, 1 gap, 0 min" not in coverage_of(reading).words
    assert "Mastodon: 2 servers, 1 gap" in coverage_of(reading).words
    assert uncovered(reading, at("08:00"), NOON) == []


def test_a_bucket_that_nobody_collected_is_unknown_and_drawn_as_a_gap(mini_day: Store) -> None:
    put(mini_day, "bluesky", Intake(holes=[Hole(at("08:10"), at("08:20"), "down")], complete_until=NOON))
    reading = Reading(mini_day, FOLDER, NOON)
    unknown = {(p.at, p.network) for p in points(reading, bucket_minutes=15) if p.spoken is None}
    assert unknown == {(at("08:00"), "bluesky"), (at("08:15"), "bluesky")}
    gaps = gap_frame(reading, since=at("08:00"), until=NOON)
    assert gaps[["name", "why"]].values.tolist() == [["Bluesky", "down"]]


def test_time_that_nobody_passed_over_is_a_gap_though_no_error_was_told(mini_day: Store) -> None:
    reading = Reading(mini_day, FOLDER, at("15:00"))
    assert {(gap.from_at, gap.to_at, gap.why) for gap in uncovered(reading, at("08:00"), at("23:00"))} == {
        (NOON, at("15:00"), "not collected yet")
    }
    later = points(reading, since=at("08:00"), until=at("23:00"), bucket_minutes=60)
    assert {p.spoken for p in later if p.at >= NOON} == {None}
    assert {p.spoken for p in later if at("11:00") <= p.at < NOON} == {0}


# The list of measures


def test_every_measure_has_its_definition_in_words_for_staff() -> None:
    assert {"mentions", "contributors", "engagements", "reach", "timeline", "by_network", "by_language", "top_posts",
            "top_contributors"} == set(definitions())  # fmt: skip
    for definition in definitions().values():
        assert len(definition.words) > 80
        assert definition.version >= 1
        assert definition.unit


def test_the_json_has_the_promised_shape(mini_day: Store) -> None:
    found = as_json(FOLDER, measure(mini_day, FOLDER, ["mentions", "timeline"], now=NOON), NOON)
    assert list(found) == ["campaign", "as_of", "measures"]
    assert (found["campaign"], found["as_of"]) == (FOLDER, "2015-06-25T12:00:00Z")
    assert list(found["measures"]["mentions"]) == ["version", "value", "unit", "coverage", "definition"]
    assert found["measures"]["timeline"]["value"][0]["at"] == "2015-06-25T08:00:00Z"
    assert found["measures"]["mentions"]["coverage"]["complete_until"] == "2015-06-25T12:00:00Z"


def test_an_unknown_measure_names_the_nearest(mini_day: Store) -> None:
    with pytest.raises(DeskError, match="Did you mean “mentions”"):
        measure(mini_day, FOLDER, ["mention"], now=NOON)
    with pytest.raises(PlanError, match="knows no campaign"):
        measure(mini_day, "nowhere", now=NOON)


def test_a_new_measure_is_one_function_in_one_file(mini_day: Store, extra_measures: str) -> None:
    found = {result.name: result for result in measure(mini_day, FOLDER, now=NOON, also=[extra_measures])}
    assert found["loudest_hour"].value == 8
    assert found["loudest_hour"].definition == "The hour in UTC with the most mentions."
    assert "loudest_hour" not in definitions()


@pytest.fixture
def extra_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package of somebody else's with one measure."""
    package = tmp_path / "extra_measures"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "loudest.py").write_text(
        "from collections import Counter\n"
        "from shareasm.measure.reading import Reading, measure\n\n\n"
        '@measure(version=1, unit="hour")\n'
        "def loudest_hour(reading: Reading) -> int:\n"
        '    """The hour in UTC\n    with the most mentions."""\n'
        "    rows = reading.store.figures.timeline(reading.id, bucket_minutes=60)\n"
        "    return max(rows, key=lambda row: row.spoken + row.reposts).at.hour\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "extra_measures"
    for name in [name for name in sys.modules if name.startswith("extra_measures")]:
        del sys.modules[name]
    definitions.cache_clear()


# Frames


def test_frames_have_their_columns_and_types_also_without_a_row(empty: Store, mini_day: Store) -> None:
    full = Reading(mini_day, FOLDER, NOON)
    nothing = Reading(empty, FOLDER, NOON)
    nothing.__dict__["shares"] = []
    since, until = window(full)
    for make in (language_frame, network_frame, contributor_frame, post_frame, own_posts_frame, timeline_frame):
        frame = make(full)
        assert frame.iloc[:0].dtypes.equals(frame.dtypes)
    assert str(timeline_frame(full)["at"].dtype) == "datetime64[us, UTC]"
    assert str(gap_frame(full, since=since, until=until)["from_at"].dtype) == "datetime64[us, UTC]"
    assert str(own_posts_frame(full)["likes"].dtype) == "Int64"


def test_a_frame_keeps_what_nobody_knows_apart_from_zero(mini_day: Store) -> None:
    frame = contributor_frame(Reading(mini_day, FOLDER, NOON)).set_index("handle")
    assert frame.loc["joe", "followers"] is not None
    assert frame["followers"].isna().sum() == 1


def test_our_posts_stand_with_the_counts_of_the_mention_that_they_became(mini_day: Store) -> None:
    publish(mini_day, "who-miners-are", "Good morning. #shareASM", url="https://x.example/1", remote_id="m1")
    publish(mini_day, "geita", "From Geita.", network="mastodon")
    frame = own_posts_frame(Reading(mini_day, FOLDER, NOON))
    assert frame[["label", "name", "language", "text", "url"]].values.tolist() == [
        ["Geita", "Mastodon", "en", "From Geita.", ""],
        ["Who miners are", "X", "en", "Good morning. #shareASM", "https://x.example/1"],
    ]
    assert frame["engagements"].isna().tolist() == [True, False]
    assert frame.loc[1, ["likes", "reposts", "replies", "quotes", "views"]].tolist() == [4, 2, 1, 0, 900]


def test_importing_the_measures_loads_no_pandas() -> None:
    import subprocess

    asked = (
        "import shareasm.measure, shareasm.measure.frames, sys; print(sorted({'pandas', 'altair'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout.strip() == "[]"


def test_a_chart_of_the_day_shows_the_campaigns_time_and_an_old_collection_its_own(mini_day: Store) -> None:
    assert window(Reading(mini_day, FOLDER, NOON)) == (CAMPAIGN.start, CAMPAIGN.end)
    moved = replace(CAMPAIGN, start=DAY_OF + timedelta(days=9), end=DAY_OF + timedelta(days=10))
    mini_day.campaigns.save(moved, NOON)
    assert window(Reading(mini_day, FOLDER, NOON))[0] == at("08:00")


# Figures as they are printed


@pytest.mark.parametrize(
    ("exact", "rounded"),
    [(0, 0), (7, 7), (52, 52), (520, 520), (615, 620), (1_220, 1_200), (1_610, 1_600), (1_250, 1_300), (1_949, 1_900),
     (99_500, 100_000), (112_706, 110_000), (43_050, 43_000)],
)  # fmt: skip
def test_an_estimate_has_two_significant_digits(exact: int, rounded: int) -> None:
    assert two_digits(exact) == rounded


@given(st.integers(0, 10**15))
def test_two_digits_never_move_a_number_by_more_than_five_percent(number: int) -> None:
    rounded = two_digits(number)
    assert abs(rounded - number) * 20 <= number
    assert two_digits(rounded) == rounded
    assert len(str(rounded).rstrip("0")) <= 2


def test_shares_are_whole_percent_and_few_cases_are_said_in_words() -> None:
    assert share(1_000, 1_610) == 0.62
    assert share(0, 0) is None
    assert percent(2, 5) == "2 of 5"
    assert percent(31, 50) == "62 %"
    assert percent(0, 0) == "–"


def test_words_of_strangers_keep_what_people_read_and_lose_what_breaks_a_page() -> None:
    assert readable("a\ud800\x07\ufffe\u202eb") == "ab"
    assert (
        readable("می\u200cخواهم 👩\u200d👩\u200d👧\ufe0f\nक्\u200dष")
        == "می\u200cخواهم 👩\u200d👩\u200d👧\ufe0f\nक्\u200dष"
    )


def test_networks_have_one_order() -> None:
    assert in_order({"practice", "x", "bluesky", "mastodon", "aaa"}) == ["mastodon", "bluesky", "x", "aaa", "practice"]


def test_every_language_that_is_detected_has_a_name() -> None:
    from shareasm.text import _identifier

    assert {code for code in _identifier().nb_classes if code not in LANGUAGES} == set()


# Buckets and cells


@given(st.timedeltas(timedelta(0), timedelta(days=12_000)), st.integers(1, 9))
def test_no_chart_has_more_than_1500_points(span: timedelta, networks: int) -> None:
    bucket = bucket_for(span, networks)
    assert (span / timedelta(minutes=bucket) + 1) * networks <= MOST_POINTS


def test_the_bucket_follows_the_span() -> None:
    spans = [timedelta(hours=2), timedelta(days=1), timedelta(days=7), timedelta(days=30), timedelta(days=4_000)]
    assert [bucket_for(span, 3) for span in spans] == [1, 15, 60, DAY, 14 * DAY]


def test_a_small_cell_is_hidden_and_a_second_one_with_it() -> None:
    assert hide_small({"miner": 3, "NGO": 12, "donor": 7, "unknown": 0}) == {
        "miner": SMALL, "NGO": 12, "donor": HIDDEN, "unknown": 0,
    }  # fmt: skip
    assert hide_small({"miner": 3, "NGO": 2, "donor": 7}) == {"miner": SMALL, "NGO": SMALL, "donor": 7}
    assert hide_small({"miner": 30, "unknown": None}) == {"miner": 30, "unknown": None}


CELLS = st.one_of(st.none(), st.integers(0, 40))


@given(
    st.integers(1, 5).flatmap(
        lambda wide: st.lists(st.lists(CELLS, min_size=wide, max_size=wide), min_size=1, max_size=5)
    )
)
def test_no_row_and_no_column_betrays_its_only_hidden_cell(rows: Sequence[Sequence[int | None]]) -> None:
    table = hide_small_table(rows)
    lines = [list(line) for line in table]
    if len(rows) > 1:
        lines += [list(column) for column in zip(*table, strict=True)]
    for line in lines:
        hidden = [cell for cell in line if isinstance(cell, str)]
        others = [cell for cell in line if isinstance(cell, int)]
        assert len(hidden) != 1 or not others
    for line, true in zip(table, rows, strict=True):
        assert all(cell == exact for cell, exact in zip(line, true, strict=True) if not isinstance(cell, str))
