"""Parts that pages share, so that each page reads as the list of its sections."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from urllib.parse import quote, urlsplit

import altair as alt
import streamlit as st

from dashboards import times
from dashboards.desk_state import Here
from dashboards.states import Shown
from shareasm.errors import DeskError
from shareasm.measure.words import counted, language_name, network_name
from shareasm.model import Campaign, Delivery
from shareasm.store.posts import PlannedPost
from shareasm.store.sources import Gap, SourceState

UNKNOWN = "–"
STALE_AFTER = timedelta(minutes=2)
BEHIND_AFTER = timedelta(minutes=15)
REHEARSAL_PATIENCE = 15
"""In a rehearsal a minute passes in a second or less, so the same delay means less."""

_ADDRESS = ":/?&=#%@+,;~-._"
_ALIVE = re.compile(r"://|www\.|[.@](?=[^\W\d])|[\[\]<>`\\]")
_SIGN = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~:$])")


# ── Words ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def literal(words: str) -> str:
    """Return our own words so that Markdown shows them as they are. Foreign text never comes here: see `foreign`."""
    return _SIGN.sub(r"\\\1", words)


def tame(words: str) -> str:
    """Return a line that may quote a server or a file, for Markdown: nothing in it becomes a link or comes alive."""
    return literal(" ".join(_ALIVE.sub(" ", words).split()))[:600]


def bounded(value: float | None, *, bound: Literal["", "≤ ", "≥ "] = "") -> str:
    """Return a number as it is printed: grouped, with its bound; “–” for what nobody knows."""
    return UNKNOWN if value is None else f"{bound}{value:,.0f}"


def foreign(words: str, *, width: Literal["stretch", "content"] = "stretch") -> None:
    """Show text that somebody else wrote, as it is. Markdown would fetch its images and bring its links alive."""
    st.text(words, width=width)


def is_safe_link(address: str) -> bool:
    """Return True for an https address without a login in it: the only links that pages offer."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return parts.scheme == "https" and bool(parts.hostname) and parts.username is None


# ── Sections ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def section(title: str, caption: str = "", *, help: str | None = None) -> None:
    """Head a section: what it says, then what exactly is shown."""
    with st.container(gap=None):
        st.header(title, anchor=False, help=help)
        if caption:
            st.caption(caption)


def live(name: str, draw: Callable[[], None], *, seconds: int) -> None:
    """Draw a part of a page that reads anew by itself, and that fails alone."""

    @st.fragment(run_every=seconds, key=name)
    def part() -> None:
        with edge(name):
            draw()

    part()


@contextmanager
def edge(name: str) -> Iterator[None]:
    """Turn an error of the desk into what happened, what to do and “Try again”. What stands around it stays."""
    try:
        yield
    except DeskError as error:
        show_error(error, name)


def show_error(error: DeskError, name: str, *, retry: bool = True) -> None:
    """Show what happened and what to do. Its words may quote a network or a file, so they are no Markdown."""
    with st.container(border=True, gap="xsmall"):
        st.badge("This did not work", icon=":material/error:", color="red")
        st.text(f"{error.where}: {error.happened}" if error.where else error.happened)
        if error.what_to_do:
            st.text(error.what_to_do)
        if retry:
            st.button("Try again", key=f"retry_{name}", icon=":material/refresh:")


def empty(title: str, words: str, icon: str) -> None:
    """Show what will appear here, and what makes it appear."""
    with st.container(border=True, horizontal_alignment="center", gap="xsmall"):
        st.markdown(f"{icon} **{title}**", width="content")
        st.caption(words, width="content", text_alignment="center")


def headline(label: str, value: str, definition: str, *, note: str = "") -> None:
    """Show one headline number with its definition. The note stays grey: more is not by itself good news."""
    st.metric(
        label,
        value,
        note or None,
        delta_color="off",
        delta_arrow="off",
        help=literal(definition),
        border=True,
        height="stretch",
    )


# ── States ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def state_badge(shown: Shown, *, help: str | None = None) -> None:
    """Show a state: word, icon and colour; what is closed is struck out."""
    word = f"~~{shown.word}~~" if shown.kind == "closed" else shown.word
    st.badge(word, icon=shown.icon, color=shown.colour, help=help or shown.sentence or None)


def state_words(shown: Shown, word: str = "") -> str:
    """Return a state as Markdown for a cell of a table."""
    text = word or shown.word
    return f":{shown.colour}-badge[{shown.icon} {f'~~{text}~~' if shown.kind == 'closed' else text}]"


# ── Collecting ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Freshness:
    """How new the numbers are: one line, one colour, one tooltip."""

    words: str
    colour: Literal["gray", "yellow", "red"]
    icon: str
    tooltip: str


def freshness(sources: Sequence[SourceState], here: Here, zone: str, *, ended: bool = False) -> Freshness:
    """Return how new the mentions are: grey, amber after two intervals, red when nothing comes in.

    Once the campaign has ended nothing has to come in any more.
    """
    asked = [source for source in sources if source.state != "as imported"]
    if not asked:
        return Freshness("Not collecting yet", "gray", ":material/sensors_off:", "Collecting begins with the worker.")
    seen = [source.last_ok_at for source in asked if source.last_ok_at is not None]
    newest = max(seen, default=None)
    tooltip = "Nothing was collected yet." if newest is None else times.with_utc(newest, zone)
    stopped = [source for source in asked if source.state == "stopped"]
    if len(stopped) == len(asked):
        return Freshness("Collecting stopped", "red", ":material/sensors_off:", tooltip)
    if newest is None:
        return Freshness("Nothing collected yet", "yellow", ":material/sensors:", tooltip)
    words = f"Collected {times.ago(newest, here.now)}"
    if ended:
        return Freshness(words, "gray", ":material/sensors:", tooltip)
    behind = (here.now - newest) / (REHEARSAL_PATIENCE if here.rehearsal else 1)
    if not here.pulse.alive or behind > BEHIND_AFTER:
        return Freshness(words, "red", ":material/sensors_off:", tooltip)
    return Freshness(words, "yellow" if behind > STALE_AFTER else "gray", ":material/sensors:", tooltip)


def coverage(sources: Sequence[SourceState], zone: str) -> str:
    """Return the collecting line: “complete until 14:05, 1 gap (12:10–12:18, server unreachable)”."""
    known = [source.complete_until for source in sources if source.complete_until is not None]
    gaps = [gap for source in sources for gap in source.gaps]
    start = f"complete until {times.clock(min(known), zone)}" if known else "nobody knows how complete"
    if not gaps:
        return start
    named = "; ".join(gap_words(gap, zone) for gap in gaps[:2])
    more = f"; {len(gaps) - 2} more" if len(gaps) > 2 else ""
    return f"{start}, {counted(len(gaps), 'gap')} ({named}{more})"


def gap_words(gap: Gap, zone: str) -> str:
    """Return one gap in words: “12:10–12:18, server unreachable”."""
    start = times.clock(gap.from_at, zone) if gap.from_at else "start"
    end = times.clock(gap.to_at, zone) if gap.to_at else "now"
    return f"{start}–{end}, {gap.why[:120]}"


def has_gap(sources: Sequence[SourceState]) -> bool:
    """Return True when a number may be too low: at least one gap is open."""
    return any(source.gaps for source in sources)


# ── Paging ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def page_number(key: str, rows: int, per_page: int) -> int:
    """Draw “n–m of k” and the pages where there is more than one, and return the page, from 0.

    The page stands in the address, from 1.
    """
    pages = max(1, -(-rows // per_page))
    if pages == 1:
        return 0
    if st.session_state.get(key, 1) > pages:  # the list became shorter since
        st.session_state[key] = pages
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        page = st.pagination(pages, key=key, bind="query-params")
        first, last = (page - 1) * per_page + 1, min(rows, page * per_page)
        st.caption(f"{first:,}–{last:,} of {rows:,}", width="content")
    return page - 1


def campaign_line(campaign: Campaign, now: datetime) -> str:
    """Return hashtag, days and which day it is, as Markdown."""
    tags = " ".join(f"**#{literal(tag)}**" for tag in campaign.hashtags)
    days = times.span(campaign.start, campaign.end, campaign.time_zone)
    return f"{tags} · {days} · {times.day_of(now, campaign.start, campaign.end, campaign.time_zone)}"


def receipt_words(delivery: Delivery, zone: str) -> str:
    """Return where and when a delivery went out, as Markdown with a link to the real post: “Bluesky 14:05, 3 min late”.

    The address comes from a network: only https is linked, and no sign in it can end the link.
    """
    at = times.clock(delivery.sent_at, zone) if delivery.sent_at else ""
    label = " ".join(filter(None, (network_name(delivery.network), at)))
    url = delivery.receipt.url if delivery.receipt else ""
    link = f"[{literal(label)}]({quote(url, safe=_ADDRESS)})" if is_safe_link(url) else literal(label)
    return ", ".join(filter(None, (link, times.late(delivery.late_ms))))


def draw_chart(chart: alt.LayerChart) -> None:
    """Draw a chart as its function made it: the height it names is that of the plot, and its words are its alt text."""
    spec = chart.to_dict()
    words = str(spec.pop("description", ""))
    spec["autosize"] = {"type": "fit-x", "contains": "padding"}  # Streamlit's own would press axis and legend into it
    st.vega_lite_chart(None, spec, theme=None, alt=words)


def mode() -> Literal["light", "dark"]:
    """Return which palette the viewer sees."""
    return "dark" if st.context.theme.type == "dark" else "light"


# ── Posts ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def wordings(planned: PlannedPost, networks: dict[str, str]) -> dict[tuple[str, ...], list[str]]:
    """Return the different wordings of a post, each with the networks that get it, in the order of its accounts."""
    found: dict[tuple[str, ...], list[str]] = {}
    for network in dict.fromkeys(networks.get(account, "") for account in planned.post.accounts):
        found.setdefault(planned.post.parts_for(network), []).append(network)
    return found


def show_wordings(planned: PlannedPost, networks: dict[str, str], *, whole: bool = False) -> None:
    """Show what a post says: each different wording with its networks; all parts of a thread when `whole`."""
    found = wordings(planned, networks)
    for parts, named in found.items():
        if len(found) > 1:
            st.caption(", ".join(network_name(network) for network in named))
        for n, part in enumerate(parts if whole else parts[:1], 1):
            foreign(f"{n}/{len(parts)}  {part}" if len(parts) > 1 else part)
        if not parts:
            foreign("Nothing is written for it.")
    more = [f"link {planned.post.link}"] if planned.post.link else []
    more += [f"picture: {media.alt or 'no alt text'}" for media in planned.post.media]
    if whole and more:
        st.caption("Goes with it:")
        foreign("\n".join(more))


def waiting_post(same: Sequence[PlannedPost], shown: Shown, here: Here, zone: str) -> None:
    """Show what goes out at one moment: when, in which state, what, where. `same` is one message in its languages."""
    first, due = same[0], same[0].post.due_at
    with st.container(border=True, gap="xsmall"):
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
            time_line(due, here.now, zone)
            state_badge(shown)
        show_wordings(first, here.desk.networks)
        languages = ", ".join(language_name(one.post.language) for one in same)
        st.caption(f"{languages} · {accounts_line(first)}")


def time_line(due: datetime, now: datetime, zone: str) -> None:
    """Show when something is due: local, how long it takes, and UTC."""
    beside = f"{times.until(due, now)} · {times.clock(due, 'UTC')} UTC"
    st.markdown(f"**{literal(times.when(due, zone, now))}** &nbsp;:small[:gray[{beside}]]", width="content")


def accounts_line(planned: PlannedPost) -> str:
    """Return the accounts of a post, as Markdown: “iied-mastodon · iied-x”."""
    return literal(" · ".join(planned.post.accounts)) or "no account"


def mention(author: str, network: str, when: str, text: str, *, ours: bool, language: str) -> None:
    """Show one mention, author first. Name and text are foreign."""
    with st.container(gap=None):
        with st.container(horizontal=True, gap="xsmall", vertical_alignment="center"):
            foreign(author, width="content")
            if ours:
                st.badge("Ours", color="orange")
            st.caption(f"{network_name(network)} · {language_name(language)} · {when}", width="content")
        foreign(text)
