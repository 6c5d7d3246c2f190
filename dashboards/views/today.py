"""Today: how is it going, what needs me, what goes out next?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from dashboards import frame, states, times, ui
from dashboards.desk_state import Here, here
from shareasm import charts, measure
from shareasm.measure import Reading, Result, frames
from shareasm.measure.coverage import coverage_of
from shareasm.model import Campaign, Delivery, DeliveryState, PostState
from shareasm.store.posts import PlannedPost

HEADLINES = ("mentions", "contributors", "engagements", "reach")
PERIODS = ("Hour", "Day", "All")  # these words stand in the address, so they are short
NEXT_OUT = 3
LATEST = 10
CONTRIBUTORS_PER_PAGE = 12
APPROVE_BEFORE = timedelta(hours=3)
PROBLEMS_SHOWN = 6
CHART_HEIGHT = 380


@dataclass(frozen=True, slots=True)
class Matter:
    """One thing that needs somebody: how pressing it is, what it is, and what to do."""

    shown: states.Shown
    what: str
    what_to_do: str
    on_plan: bool = False


STOPPED = states.Shown("asks for a person", "Worker", ":material/power_off:", "red")
SOURCE = states.Shown("asks for a person", "Source", ":material/sensors_off:", "red")
GAP = states.Shown("held", "Gap", ":material/data_alert:", "yellow")
RESTING = states.Shown("held", "Account rests", ":material/hourglass_top:", "yellow")
UNAPPROVED = states.Shown("being written", "Not approved", ":material/rate_review:", "yellow")


def page() -> None:
    """Draw the page: what needs somebody first, then how it goes; each part reads anew and fails alone."""
    desk = here()
    campaign = frame.chosen(desk)
    part = partial(_part, campaign.folder, desk.refresh_seconds)
    part("matters", _matters)
    part("headlines", _headlines)
    chart, plan = st.columns([2, 1], gap="medium")
    with chart:
        part("timeline", _timeline)
    with plan:
        part("next", _next_out)
    table, latest = st.columns([2, 1], gap="medium")
    with table:
        part("contributors", _contributors)
        part("languages", _languages)
    with latest:
        part("latest", _latest)


def _part(folder: str, seconds: int, name: str, draw: Callable[[Here, Campaign], None]) -> None:
    def read_and_draw() -> None:
        desk = here()
        draw(desk, desk.store.campaigns.get(folder))

    ui.live(name, read_and_draw, seconds=seconds)


# ── What needs somebody ──────────────────────────────────────────────────────────────────────────────────────────────


def _matters(desk: Here, campaign: Campaign) -> None:
    found = matters(desk, campaign)
    if not found:
        st.badge("Nothing needs you", icon=":material/check:", color="green")
        return
    with st.container(border=True, gap="xsmall"):
        for one in found[:PROBLEMS_SHOWN]:
            _matter(one)
        if len(found) > PROBLEMS_SHOWN:
            st.caption(f"and {len(found) - PROBLEMS_SHOWN:,} more")
        if any(one.on_plan for one in found):
            st.page_link("views/plan.py", label="Decide on Plan", icon=":material/arrow_forward:")


def _matter(one: Matter) -> None:
    with st.container(horizontal=True, gap="xsmall", vertical_alignment="center"):
        ui.state_badge(one.shown)
        ui.foreign(one.what, width="content")
        ui.foreign(one.what_to_do, width="content")


def matters(desk: Here, campaign: Campaign) -> list[Matter]:
    """Return everything that needs a person, the most pressing first. Read-only."""
    found = [*_worker(desk, campaign), *_deliveries(desk, campaign), *_sources(desk, campaign)]
    found += [*_resting(desk, campaign), *_unapproved(desk, campaign)]
    return sorted(found, key=lambda one: one.shown.colour != "red")


def _worker(desk: Here, campaign: Campaign) -> list[Matter]:
    if desk.pulse.alive:
        return []
    seen = desk.pulse.seen_at
    since = f" since {times.when(seen, campaign.time_zone, desk.now)}" if seen else ""
    return [Matter(STOPPED, f"No worker runs{since}: nothing goes out.", "Start it with: shareasm up")]


def _deliveries(desk: Here, campaign: Campaign) -> list[Matter]:
    waiting = states.waiting_for_a_person(desk.store.queue.all(campaign.folder))
    found: list[Matter] = []
    for state in states.DECIDABLE:
        mine = [one for one in waiting if one.state is state]
        if mine:
            first = mine[0]
            more = f" and {len(mine) - 1:,} more" if len(mine) > 1 else ""
            due = times.when(first.due_at, campaign.time_zone, desk.now)
            shown = states.DELIVERY_STATES[state]
            what = f"{first.post} of {due} on {first.account}{more}: {first.reason or shown.sentence}"
            found.append(Matter(shown, what, "", on_plan=True))
    return found


def _sources(desk: Here, campaign: Campaign) -> list[Matter]:
    found: list[Matter] = []
    for source in desk.store.sources.states(campaign.folder):
        name = f"{ui.network_name(source.network)} {source.server}".strip()
        if source.state == "stopped":
            found.append(Matter(SOURCE, f"{name} stopped: {source.error}", "Mentions are missed until it is mended."))
        elif source.gaps:
            gaps = "; ".join(ui.gap_words(gap, campaign.time_zone) for gap in source.gaps[:2])
            more = f" and {len(source.gaps) - 2:,} more" if len(source.gaps) > 2 else ""
            found.append(Matter(GAP, f"{name}: {gaps}{more}", "Numbers may be too low."))
    return found


def _resting(desk: Here, campaign: Campaign) -> list[Matter]:
    return [
        Matter(RESTING, f"{account} rests until {times.when(until, campaign.time_zone, desk.now)}: {why}", "")
        for account, (until, why) in desk.store.workers.closed(desk.now).items()
    ]


def _unapproved(desk: Here, campaign: Campaign) -> list[Matter]:
    soon = [
        one
        for one in desk.store.posts.all(campaign.folder)
        if one.state in {PostState.DRAFT, PostState.IN_REVIEW}
        and desk.now < one.post.due_at < desk.now + APPROVE_BEFORE
    ]
    if not soon:
        return []
    first = times.when(soon[0].post.due_at, campaign.time_zone, desk.now)
    what = f"{ui.counted(len(soon), 'post is', 'posts are')} due within 3 hours and not approved, the first at {first}."
    return [Matter(UNAPPROVED, what, "", on_plan=True)]


# ── Headline measures ────────────────────────────────────────────────────────────────────────────────────────────────


def _headlines(desk: Here, campaign: Campaign) -> None:
    reading = Reading(desk.store, campaign.folder, desk.now)
    known = measure.definitions()
    results = {one.name: one for one in measure.take(reading, [known[name] for name in HEADLINES])}
    with st.grid(4, min_column_width=150, gap="small"):
        for card in headline_cards(results, _last_hour(reading)):
            ui.headline(**card)
    st.caption(ui.tame(coverage_of(reading).words))


def headline_cards(results: dict[str, Result], last_hour: int | None) -> list[dict[str, Any]]:
    """Return label, value, definition and the two grey lines of each headline number. Pure."""
    mentions, contributors = results["mentions"], results["contributors"]
    engagements, reach = results["engagements"], results["reach"]
    bound = "≥ " if mentions.coverage.is_open else ""
    could = (reach.value or {}).get("could_have_seen", {})
    most = (could.get("estimate") or [None, None])[1]
    return [
        {
            "label": "Mentions",
            "value": ui.bounded(_total(mentions), bound=bound),
            "definition": mentions.definition,
            "note": "" if last_hour is None else f"{last_hour:,} in the last hour",
        },
        {
            "label": "Contributors",
            "value": ui.bounded(_total(contributors), bound=bound),
            "definition": contributors.definition,
            "note": _part_words(contributors, "speaking", "spoke"),
        },
        {
            "label": "Engagements",
            "value": ui.bounded(_total(engagements), bound=bound),
            "definition": engagements.definition,
            "note": _of(engagements.value, "posts", "of_posts", "post"),
        },
        {
            "label": "Could have seen",
            "value": ui.bounded(most, bound="≤ "),
            "definition": reach.definition,
            "note": _of(could, "accounts", "of_accounts", "account"),
        },
    ]


def _total(result: Result) -> int | None:
    return None if result.value is None else result.value["total"]


def _part_words(result: Result, key: str, word: str) -> str:
    return "" if result.value is None else f"{result.value[key]:,} {word}"


def _of(value: dict[str, Any] | None, known: str, whole: str, noun: str) -> str:
    """Return a measure's own coverage: “5 of 6 posts”."""
    return f"{value[known]:,} of {ui.counted(value[whole], noun)}" if value and known in value else ""


def _last_hour(reading: Reading) -> int | None:
    """Return the mentions of the hour up to now; None where nobody collected any of it."""
    since = reading.now - timedelta(hours=1)
    found = frames.timeline_frame(reading, since=since, until=reading.now, bucket_minutes=1)
    known = [int(row["mentions"]) for row in found.dropna(subset=["mentions"]).to_dict("records")]
    return sum(known) if known else None


# ── When, and what goes out next ─────────────────────────────────────────────────────────────────────────────────────


def _timeline(desk: Here, campaign: Campaign) -> None:
    reading = Reading(desk.store, campaign.folder, desk.now)
    heading = st.container()
    usual = "Day" if campaign.start <= desk.now < campaign.end else "All"
    period = st.segmented_control(
        "Period", PERIODS, default=usual, required=True, key="period", bind="query-params", label_visibility="collapsed"
    )
    since, until = span_of(str(period), reading)
    found = frames.timeline_frame(reading, since=since, until=until)
    with heading:
        ui.section(*timeline_title(found, campaign))
    if not len(found.dropna(subset=["mentions"])):
        ui.empty("No mention in this time", "They appear here as the worker collects them.", ":material/sensors:")
        return
    ours, gaps = frames.own_posts_frame(reading), frames.gap_frame(reading, since=since, until=min(until, desk.now))
    ours = ours.loc[(ours["at"] >= since) & (ours["at"] < until), :]
    ui.draw_chart(
        charts.mentions_over_time(found, ours, gaps, zone=campaign.time_zone, mode=ui.mode(), height=CHART_HEIGHT)
    )


def span_of(period: str, reading: Reading) -> tuple[datetime, datetime]:
    """Return the first and last moment of a period: the hour up to now, the local day, or the whole campaign.

    Once the campaign is over, its last hour and its last day are meant, for a page that was left open overnight.
    """
    at = min(reading.now, reading.campaign.end - timedelta(microseconds=1))
    if period == "Hour":
        return at - timedelta(hours=1), at + timedelta(minutes=1)
    if period == "Day":
        local = at.astimezone(reading.zone)
        start = local.replace(hour=0, minute=0, second=0, microsecond=0)
        return start, start + timedelta(days=1)
    return frames.window(reading)


def timeline_title(found: pd.DataFrame, campaign: Campaign) -> tuple[str, str]:
    """Return the finding and the caption of the timeline: when it was busiest, and what exactly is drawn."""
    zone = campaign.time_zone
    bucket = int((found["until"].iloc[0] - found["at"].iloc[0]).total_seconds() // 60) if len(found) else 0
    per = {0: "", 1: " per minute", 15: " per 15 minutes", 60: " per hour", 1440: " per day"}.get(bucket, "")
    return (
        charts.busiest(found, zone=zone) if len(found.dropna(subset=["mentions"])) else "Mentions by time",
        f"Mentions{per} by network, times in {ui.literal(zone)}. Hatched: not collected. :orange[▼] our own posts; "
        "what still runs is pale.",
    )


def _next_out(desk: Here, campaign: Campaign) -> None:
    deliveries = states.by_post(desk.store.queue.all(campaign.folder))
    coming = [one for one in desk.store.posts.all(campaign.folder) if _is_coming(desk, one, deliveries)]
    ui.section(
        "Next out",
        f"{ui.counted(len(coming), 'post')} to come. Times in {ui.literal(campaign.time_zone)}." if coming else "",
    )
    if not coming:
        ui.empty("Nothing is planned to go out", "Approve posts on Plan, and they wait here.", ":material/schedule:")
    for shown, same in by_moment(coming, deliveries)[:NEXT_OUT]:
        ui.waiting_post(same, shown, desk, campaign.time_zone)
    st.page_link("views/plan.py", label="Open the plan", icon=":material/arrow_forward:")


def by_moment(
    coming: Sequence[PlannedPost], deliveries: dict[str, list[Delivery]]
) -> list[tuple[states.Shown, list[PlannedPost]]]:
    """Return what comes next, the languages of one message together where moment and state are the same. Pure."""
    found: dict[tuple[datetime, str, str], tuple[states.Shown, list[PlannedPost]]] = {}
    for one in coming:
        shown = states.post_shown(one, deliveries.get(one.post.id, []))
        found.setdefault((one.post.due_at, one.post.message, shown.word), (shown, []))[1].append(one)
    return list(found.values())


def _is_coming(desk: Here, planned: PlannedPost, deliveries: dict[str, list[Delivery]]) -> bool:
    """Return True for what may still go out by itself, or would if somebody approved it."""
    if planned.state is PostState.APPROVED:
        return any(one.state is DeliveryState.SCHEDULED for one in deliveries.get(planned.post.id, []))
    return planned.state is not PostState.WITHDRAWN and planned.post.due_at > desk.now


# ── Who, in which language, and what ─────────────────────────────────────────────────────────────────────────────────


def _contributors(desk: Here, campaign: Campaign) -> None:
    reading = Reading(desk.store, campaign.folder, desk.now)
    total = sum(row.authors for row in reading.reach)
    ui.section("Who carries it", "Contributors with the most mentions; our own accounts are marked.")
    if not total:
        ui.empty("Nobody yet", "Whoever writes under the hashtag appears here.", ":material/group:")
        return
    number = ui.page_number("who", total, CONTRIBUTORS_PER_PAGE)
    found = frames.contributor_frame(reading, limit=CONTRIBUTORS_PER_PAGE, offset=number * CONTRIBUTORS_PER_PAGE)
    found["mentions"] = found["spoken"] + found["reposts"]
    top = int(frames.contributor_frame(reading, limit=1)[["spoken", "reposts"]].sum(axis=1).iloc[0])
    table = found.assign(
        who=[_who(*row) for row in found[["name", "handle", "ours"]].itertuples(index=False)],
        where=[ui.network_name(network) for network in found["network"]],
    )
    columns = ["who", "mentions", "where", "engagements", "followers"]
    if any(group != "unknown" for group in found["group"]):
        columns.insert(3, "group")
    st.dataframe(
        table[columns],
        hide_index=True,
        row_height=38,
        height="content",
        placeholder="–",
        alt="Contributors with the most mentions, most first",
        column_config={
            "who": st.column_config.TextColumn("Contributor", width="medium"),
            "mentions": st.column_config.ProgressColumn(
                "Mentions", format="%d", min_value=0, max_value=max(top, 1), color=charts.BARS[ui.mode()]
            ),
            "where": "Network",
            "group": "Group",
            "engagements": st.column_config.NumberColumn("Engagements", format="localized"),
            "followers": st.column_config.NumberColumn("Followers", format="localized"),
        },
    )


def _who(name: object, handle: object, ours: bool) -> str:
    """Return a contributor's name as they write it; ours is said, and so is that somebody asks not to be shown."""
    known = next((str(one) for one in (name, handle) if isinstance(one, str) and one), "Name not shown")
    return f"{known} (ours)" if ours else known


def _languages(desk: Here, campaign: Campaign) -> None:
    reading = Reading(desk.store, campaign.folder, desk.now)
    found = frames.language_frame(reading)
    if found.empty:
        return
    ui.section(*language_title(found), help=measure.definitions()["by_language"].words)
    ui.draw_chart(charts.by_language(found, mode=ui.mode()))


def language_title(found: pd.DataFrame) -> tuple[str, str]:
    """Return the finding and the caption of the languages: how many, and what is counted."""
    named = found[found["language"] != "unsure"]
    title = f"Spoken in {ui.counted(len(named), 'language')}" if len(named) else "Languages"
    return title, "Spoken posts by language, reposts apart; unsure is where the text does not show it."


def _latest(desk: Here, campaign: Campaign) -> None:
    ui.section("Latest mentions", "Newest first, shown as collected.")
    campaign_id = desk.store.campaigns.id_of(campaign.folder)
    newest = desk.store.conversation.newest(campaign_id, limit=LATEST)
    if not newest:
        ui.empty("No mention yet", "They appear here within seconds of being collected.", ":material/forum:")
    for one in newest:
        author = (one.author or one.handle) if one.may_be_named else "Name not shown"
        text = one.text if one.may_be_named else "This account asked not to be shown."
        when = times.ago(one.posted_at, desk.now)
        ui.mention(author, one.network, when, text, ours=one.ours, language=one.language)


page()
