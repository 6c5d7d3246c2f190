"""HTML: the report as one page that stands alone. It asks nobody, runs nothing and prints on A4.

Everything that strangers wrote is escaped and stays text: a link is made only of an https address, with its host
shown. Nothing a stranger wrote is quoted, because no quote was read again before this report.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import jinja2
from markupsafe import Markup

from shareasm import __version__, charts
from shareasm.measure import Result, definitions, frames, take
from shareasm.measure.cells import hide_small
from shareasm.measure.coverage import SEPARATOR, Missing, coverage_of
from shareasm.measure.reading import Reading
from shareasm.measure.timeline import bucket_for, points
from shareasm.measure.words import counted, network_name, number, percent, readable
from shareasm.store import Store

FILE = "report.html"
CONTRIBUTORS = 10
EXCERPT = 140
WIDE, NARROW = 780, 310
UNNAMED = "an account that asked not to be named"
PRACTICE = "practice"
OWN_COUNTS = ("likes", "reposts", "replies", "quotes", "views")


def write_report(store: Store, campaign: str, folder: Path, now: datetime, also: Sequence[str] = ()) -> list[Path]:
    """Write report.html into the folder and return it. The file is replaced whole or left as it was."""
    file = folder / FILE
    fresh = folder / f".{FILE}.{os.getpid()}"
    fresh.write_text(page(store, campaign, now, also), encoding="utf-8")
    fresh.replace(file)
    return [file]


def page(store: Store, campaign: str, now: datetime, also: Sequence[str] = ()) -> str:
    """Return the report of a campaign at this moment as one HTML page. Read-only."""
    reading = Reading(store, campaign, now)
    results = {result.name: result for result in take(reading, list(definitions(tuple(also)).values()))}
    return _template().render(
        page=_head(reading),
        coverage=coverage_of(reading),
        headlines=_headlines(results),
        timeline=_timeline(reading),
        contributors=_contributors(reading),
        groups=_groups(reading),
        networks=_networks(reading, results["by_network"]),
        languages=_languages(reading),
        reach=_reach_lines(results["reach"]),
        posts=_own_posts(reading),
        gaps=_gaps(reading, results["mentions"]),
        others=[
            (result.name, _printed(result.value), result.unit)
            for result in results.values()
            if result.name not in _SHOWN
        ],
        results=results.values(),
        dark=_dark_colours(),
    )


_SHOWN = frozenset(
    {"mentions", "contributors", "engagements", "reach", "timeline", "by_network", "by_language", "top_posts",
     "top_contributors"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Page:
    """What stands at the head and the foot of the page."""

    title: str
    hashtags: str
    when: str
    zone: str
    made: str
    version: str
    rehearsal: str


@dataclass(frozen=True, slots=True)
class _Headline:
    """One number of the first row: its label, the figure as it is printed, and what it is made of."""

    label: str
    figure: str
    note: str


@dataclass(frozen=True, slots=True)
class _Chart:
    """One chart: a title that says the finding, and its image for wide and for narrow screens."""

    title: str
    words: str
    wide: Markup
    narrow: Markup
    columns: list[str]
    rows: list[list[str]]
    has_gaps: bool = False


@dataclass(frozen=True, slots=True)
class _Link:
    """Where a post can be read: an https address and the host it leads to; both empty where there is none."""

    address: str = ""
    host: str = ""


def _head(reading: Reading) -> _Page:
    campaign = reading.campaign
    made = f"{_day_time(_local(reading, reading.now))} ({reading.now.astimezone(UTC):%H:%M} UTC)"
    tags = " ".join(f"#{tag}" for tag in campaign.hashtags)
    return _Page(campaign.name, tags, _when(reading), campaign.time_zone, made, __version__, _rehearsal(reading))


def _when(reading: Reading) -> str:
    """Return the campaign's time: its day, or its first and last moment."""
    start, end = _local(reading, reading.campaign.start), _local(reading, reading.campaign.end)
    last = end - timedelta(microseconds=1)
    is_whole = (start.hour, start.minute, end.hour, end.minute) == (0, 0, 0, 0)
    if is_whole and start.date() == last.date():
        return f"{start:%A} {_day(start)}"
    return f"{_day(start)} to {_day(last)}" if is_whole else f"{_day_time(start)} to {_day_time(end)}"


def _rehearsal(reading: Reading) -> str:
    if PRACTICE not in reading.networks:
        return ""
    others = [network_name(network) for network in reading.networks if network != PRACTICE]
    if not others:
        return "Rehearsal: the audience is simulated. Nobody below exists, and no number is a result."
    return f"Rehearsal: the audience of practice is simulated, and its numbers are added to those of {_and(others)}."


def _headlines(results: dict[str, Result]) -> list[_Headline]:
    sign = "≥ " if results["mentions"].coverage.is_open else ""
    mentions, people, actions = (results[name].value or {} for name in ("mentions", "contributors", "engagements"))
    could = (results["reach"].value or {}).get("could_have_seen", {})
    most = (could.get("estimate") or [None, None])[1]
    return [
        _Headline("Mentions", _figure(mentions.get("total"), sign), _mention_note(mentions)),
        _Headline("Contributors", _figure(people.get("total"), sign), _people_note(people)),
        _Headline("Engagements", _figure(actions.get("total"), sign), _action_note(actions)),
        _Headline("Could have seen it", _figure(most, "≤ "), _could_note(could)),
    ]


def _figure(value: int | None, sign: str) -> str:
    return number(value) if value is None else f"{sign}{number(value)}"


def _mention_note(value: dict[str, Any]) -> str:
    if not value:
        return "nothing collected yet"
    deleted = f"; {value['deleted']:,} since deleted" if value["deleted"] else ""
    return f"{value['spoken']:,} spoken, {counted(value['reposts'], 'repost')}{deleted}"


def _people_note(value: dict[str, Any]) -> str:
    if not value:
        return "nothing collected yet"
    ours = f"; {value['ours']:,} of them ours" if value["ours"] else ""
    return f"{value['speaking']:,} spoke, {value['only_reposting']:,} only reposted{ours}"


def _action_note(value: dict[str, Any]) -> str:
    if not value or value["total"] is None:
        return "no network gave counts yet"
    known = f"counts of {value['posts']:,} of {counted(value['of_posts'], 'post')}"
    carried = value["carried_in"]
    return known + (f"; {number(carried['total'])} carried in by reposts" if carried["posts"] else "")


def _could_note(value: dict[str, Any]) -> str:
    if not value.get("estimate"):
        return "no follower counts yet"
    return (
        f"accounts, at most; followers of {value['accounts']:,} of {counted(value['of_accounts'], 'contributor')} known"
    )


def _timeline(reading: Reading) -> _Chart:
    since, until = frames.window(reading)
    ours, gaps = frames.own_posts_frame(reading), frames.gap_frame(reading, since=since, until=until)
    zone = reading.campaign.time_zone
    frame = frames.timeline_frame(reading, since=since, until=until)
    narrow = frames.timeline_frame(reading, since=since, until=until, bucket_minutes=_coarser(until - since))
    draw = charts.mentions_over_time
    columns, rows = _hours(reading, since, until)
    return _Chart(
        charts.busiest(frame, zone=zone),
        charts.mentions_over_time_words(frame, ours, gaps, zone=zone),
        _inline(charts.as_svg(draw(frame, ours, gaps, zone=zone, width=WIDE, height=300))),
        _inline(charts.as_svg(draw(narrow, ours, gaps, zone=zone, width=NARROW, height=260))),
        columns,
        rows,
        bool(len(gaps)),
    )


def _coarser(span: timedelta) -> int:
    """Return the bucket for a phone, on which a quarter of an hour is too thin to see."""
    return max(60, bucket_for(span, 1)) if span > timedelta(hours=6) else 15


def _hours(reading: Reading, since: datetime, until: datetime) -> tuple[list[str], list[list[str]]]:
    """Return the chart as a table: per hour, or per day where the campaign is longer, without the empty rows."""
    bucket = 60 if until - since <= timedelta(days=3) else 1_440
    found = points(reading, since=since, until=until, bucket_minutes=bucket)
    networks = list(dict.fromkeys(point.network for point in found))
    cells = {(p.at, p.network): None if p.spoken is None else p.spoken + (p.reposts or 0) for p in found}
    moments = sorted({p.at for p in found if cells[p.at, p.network]})
    form = _day if bucket == 1_440 else _clock
    rows = [[form(_local(reading, at)), *(number(cells[at, network]) for network in networks)] for at in moments]
    return ["From", *(network_name(network) for network in networks)], rows


def _languages(reading: Reading) -> _Chart | None:
    frame = frames.language_frame(reading)
    if not len(frame):
        return None
    image = _inline(charts.as_svg(charts.by_language(frame, width=NARROW - 60)))
    return _Chart("", charts.by_language_words(frame), image, image, [], [])


def _inline(svg: str) -> Markup:
    """Return a chart of ours for the inside of a page. Vega has escaped every text in it; namespaces are not needed."""
    return Markup(re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg))  # noqa: S704 - drawn by our own charts


def _contributors(reading: Reading) -> list[dict[str, Any]]:
    """Return who carried it, most mentions first, with the width of a bar beside each."""
    rows = frames.contributor_frame(reading, limit=CONTRIBUTORS).astype(object)
    found = cast("list[dict[str, Any]]", rows.where(rows.notna(), None).to_dict("records"))
    most = max((row["spoken"] + row["reposts"] for row in found), default=1)
    return [
        {
            "name": _name(row), "network": network_name(row["network"]), "ours": row["ours"],
            "is_named": row["handle"] is not None, "spoken": number(row["spoken"]), "reposts": number(row["reposts"]),
            "followers": number(row["followers"]), "bar": round(100 * (row["spoken"] + row["reposts"]) / most),
        }
        for row in found
    ]  # fmt: skip


def _name(row: dict[str, Any]) -> str:
    if row["handle"] is None:
        return UNNAMED
    return _tidy(row["handle"] or row["name"], 60) or "an account without a name"


def _groups(reading: Reading) -> list[tuple[str, str]]:
    """Return accounts by declared group, ours apart, with small cells hidden: this table leaves the house."""
    groups: dict[str, int | None] = {}
    for row in reading.reach:
        if not row.ours:
            groups[row.group_name] = (groups.get(row.group_name) or 0) + row.authors
    if set(groups) <= {"unknown"}:
        return []
    hidden = hide_small(dict(sorted(groups.items(), key=lambda item: (item[0] == "unknown", -(item[1] or 0), item[0]))))
    rows = [(_tidy(name, 60), cell if isinstance(cell, str) else number(cell)) for name, cell in hidden.items()]
    ours = sum(row.authors for row in reading.reach if row.ours)
    return [*rows, ("ours", number(ours))]


def _networks(reading: Reading, result: Result) -> list[dict[str, str]]:
    total = sum(row["spoken"] or 0 for row in result.value or [])
    return [
        {
            "name": row["name"],
            **{name: number(row[name]) for name in ("spoken", "reposts", "contributors")},
            "share": "–" if row["spoken"] is None else percent(row["spoken"], total),
        }
        for row in result.value or []
    ]


def _reach_lines(result: Result) -> list[tuple[str, str, str]]:
    """Return the four lines: what it is, its figure, and how it may be read."""
    if result.value is None:
        return []
    seen, acted = result.value["seen"], result.value["acted"]
    could, concentration = result.value["could_have_seen"], result.value["concentration"]
    return [
        ("Seen", "–" if seen["views"] is None else counted(seen["views"], "view"), _seen_words(seen)),
        (
            "Acted",
            f"≥ {counted(acted['at_least'], 'account')}",
            "Not ours: those that we saw post, reply, quote or repost. Who only liked is not known.",
        ),
        ("Could have seen", _interval(could, "accounts"), _could_words(could)),
        ("Concentration", _share(concentration["top_1"]), _concentration_words(concentration)),
    ]


def _seen_words(value: dict[str, Any]) -> str:
    if value["views"] is None:
        return "No network gave views."
    silent = f" {_and(value['given_by_none_of'])} gave none." if value["given_by_none_of"] else ""
    return f"Views, not accounts, of {value['posts']:,} of {counted(value['of_posts'], 'post')}.{silent}"


def _printed(value: object) -> str:
    """Return a value that has no section of its own in a few words."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_printed(one)}" for name, one in value.items())[:200]
    if isinstance(value, list):
        return counted(len(value), "row")
    return number(value) if isinstance(value, int) or value is None else _tidy(str(value), 200)


def _interval(value: dict[str, Any], unit: str) -> str:
    if not value["estimate"]:
        return "–"
    low, high = value["estimate"]
    return f"{low:,} to {high:,} {unit}" if low != high else f"about {high:,} {unit}"


def _could_words(value: dict[str, Any]) -> str:
    if not value["estimate"]:
        return "No network told how many follow the contributors."
    known = f"{value['accounts']:,} of {counted(value['of_accounts'], 'contributor')}"
    return (
        f"They follow one contributor or more (exactly {value['at_least']:,} to {value['at_most']:,}, from {known}). "
        "A ceiling: how many of them looked is not known."
    )


def _concentration_words(value: dict[str, Any]) -> str:
    if value["top_1"] is None:
        return "It needs follower counts."
    return (
        f"of all followers are the largest contributor’s. The largest five have {_share(value['top_5'])}, accounts "
        f"that only reposted {_share(value['only_reposting'])}. "
        f"Without the largest: {_interval(value['without_largest'], 'accounts')}."
    )


def _share(value: float | None) -> str:
    return "–" if value is None else f"{round(value * 100)} %"


def _own_posts(reading: Reading) -> list[dict[str, Any]]:
    return [
        {
            "at": _clock_on_day(reading, post.at), "text": _tidy(post.text, EXCERPT), "language": post.language,
            "network": network_name(post.network), "account": post.account, "link": link_of(post.url),
            "counts": [(name, number(getattr(post, name))) for name in OWN_COUNTS],
        }
        for post in reading.store.figures.our_posts(reading.id)
    ]  # fmt: skip


def link_of(address: str) -> _Link:
    """Return the address as a link with its host, and an empty one for all that is not plain https. Pure."""
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
    except ValueError:
        return _Link()
    is_plain = parts.scheme == "https" and "@" not in parts.netloc and re.fullmatch(r"[!-~]+", address)
    return _Link(address, host) if is_plain and re.fullmatch(r"[a-z0-9.-]+", host) else _Link()


def _gaps(reading: Reading, result: Result) -> list[str]:
    """Return what may be missing, in sentences: open gaps by name, closed ones by number."""
    said = [_gap_words(reading, gap) for gap in result.coverage.gaps]
    stopped = [source for source in result.coverage.sources if source.state == "stopped"]
    said += [f"{_place(s.network, s.server)}: stopped. {_tidy(s.why, 200)}" for s in stopped]
    if result.coverage.words != coverage_of(reading).words:
        said.append(result.coverage.words.removeprefix(coverage_of(reading).words).removeprefix(SEPARATOR))
    closed = sum(gap.closed_at is not None for gap in reading.store.sources.gaps(reading.campaign.folder))
    if closed:
        said.append(f"{counted(closed, 'gap')} {'was' if closed == 1 else 'were'} closed by reading on from there.")
    return said


def _gap_words(reading: Reading, gap: Missing) -> str:
    start = _day_time(_local(reading, gap.from_at)) if gap.from_at else "an unknown moment"
    end = _clock_on_day(reading, gap.to_at) if gap.to_at else "now"
    return f"{_place(gap.network, gap.server)}: {start} to {end}: {_tidy(gap.why, 200)}"


def _place(network: str, server: str) -> str:
    return ", ".join(part for part in (network_name(network), _tidy(server, 80)) if part)


def _tidy(words: str, most: int) -> str:
    """Return foreign words on one readable line, cut at a length: floods of signs end there."""
    line = " ".join(readable(words).split())
    return line if len(line) <= most else f"{line[: most - 1].rsplit(' ', 1)[0].rstrip()}…"


def _dark_colours() -> Markup:
    """Return the rules that give the charts their dark colours: one image serves both."""
    pairs = [*zip(charts.NETWORKS["light"].values(), charts.NETWORKS["dark"].values(), strict=True)]
    pairs += [
        (hue["light"], hue["dark"])
        for hue in (charts.US, charts.SPARE, charts.GREY, charts.BARS, charts.INK, charts.GRID)
    ]
    rules = [f'.chart [fill="{a}"]{{fill:{b}}}.chart [stroke="{a}"]{{stroke:{b}}}' for a, b in pairs]
    return Markup("\n".join(rules))  # noqa: S704 - constants of charts.py


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("shareasm.report"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("report.html")


def _local(reading: Reading, at: datetime) -> datetime:
    return at.astimezone(reading.zone)


def _day(at: datetime) -> str:
    return f"{at.day} {at:%B %Y}"


def _clock(at: datetime) -> str:
    return f"{at:%H:%M}"


def _day_time(at: datetime) -> str:
    return f"{_day(at)}, {_clock(at)}"


def _clock_on_day(reading: Reading, at: datetime) -> str:
    """Return the local time, with its day where that is not the campaign's first."""
    local = _local(reading, at)
    is_first = local.date() == _local(reading, reading.campaign.start).date()
    return _clock(local) if is_first else f"{local.day} {local:%b} {_clock(local)}"


def _and(words: Iterable[str]) -> str:
    listed = list(words)
    return " and ".join([", ".join(listed[:-1]), listed[-1]] if len(listed) > 1 else listed)
