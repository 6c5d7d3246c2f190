"""Charts: one theme and one function per chart, frames in and Altair charts out; pages and reports share them.

The frames are those of `measure.frames`. Every chart carries in words what it shows (`mentions_over_time_words`,
`by_language_words`): as its description, and as the alt text of its image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, cast
from zoneinfo import ZoneInfo

import altair as alt

from shareasm.measure.words import UNSURE, counted, in_order, network_name, percent, readable

if TYPE_CHECKING:
    import pandas as pd

Mode = Literal["light", "dark"]
Width = int | Literal["container"]

US = {"light": "#B4420F", "dark": "#F2A277"}
"""Our own posts: the one warm hue."""
NETWORKS = {
    "light": {"mastodon": "#5B4FC4", "bluesky": "#2E97C9", "x": "#26303B"},
    "dark": {"mastodon": "#9D93F2", "bluesky": "#4FBDEB", "x": "#D5DCE3"},
}
SPARE = {"light": "#8A9099", "dark": "#7C8893"}
"""A further network, and practice."""
GREY = {"light": "#5F6B76", "dark": "#94A1AD"}
BARS = {"light": "#6B7785", "dark": "#8793A0"}
INK = {"light": "#0E151C", "dark": "#E6EBF0"}
GRID = {"light": "#D5DAE0", "dark": "#39434D"}

SANS = "'Source Sans', 'Source Sans 3', 'Source Sans Pro', system-ui, sans-serif"
MOST_POINTS = 1_500
NOMINAL_WIDTH = 720
"""How wide a chart is taken to be where its page decides: only which pins are named hangs on it."""

Box = tuple[float, float, float, float]
"""Left, right, bottom and top of something drawn, in pixels from the lower left corner."""


@alt.theme.register("desk", enable=True)
def desk() -> alt.theme.ThemeConfig:
    """Quiet axes, horizontal grid only, no frame: the marks carry the ink."""
    return alt.theme.ThemeConfig(config=cast("alt.theme.ConfigKwds", _config("light", 1)))


def mentions_over_time(
    frame: pd.DataFrame,
    ours: pd.DataFrame,
    gaps: pd.DataFrame,
    *,
    zone: str,
    mode: Mode = "light",
    height: int = 320,
    width: Width = "container",
    scale: float = 1,
) -> alt.LayerChart:
    """Stack mentions per bucket by network, our own posts pinned above the bars, what nobody collected hatched.

    Takes `timeline_frame`, `own_posts_frame` and `gap_frame`. The bucket that still runs is pale; times are the wall
    time of the zone; the axis of counts begins at 0. Raise ValueError above 1,500 points.
    """
    if len(frame) > MOST_POINTS:
        raise ValueError(f"{len(frame):,} points are too many for one chart. Take larger buckets.")
    buckets = _buckets(frame, zone)
    plot = _Plot.of(buckets, mode, height, NOMINAL_WIDTH if width == "container" else width, scale)
    gap_layers, taken = _gap_layers(_gaps(gaps, zone), plot)
    layers = [*gap_layers, _bars(buckets, plot), *_pins(_pinned(buckets, _own(ours, zone)), buckets, taken, plot)]
    words = mentions_over_time_words(frame, ours, gaps, zone=zone)
    return _finished(layers, words, mode, height, width, scale)


def mentions_over_time_words(frame: pd.DataFrame, ours: pd.DataFrame, gaps: pd.DataFrame, *, zone: str) -> str:
    """Return in sentences what the chart over time shows: totals, the peak, our posts and what is missing. Pure."""
    buckets = [bucket for bucket in _buckets(frame, zone) if bucket.mentions is not None]
    total = sum(bucket.mentions or 0 for bucket in buckets)
    said = [f"{counted(total, 'mention')}." if total else "No mention yet."]
    if total:
        said = [f"{counted(total, 'mention')} from {_day_time(buckets[0].start)} to {_day_time(buckets[-1].end)},"]
        said += [f"{zone} time.", _network_words(buckets), f"{_busiest(buckets)}."]
    if len(ours):
        said.append(f"{counted(len(_by_message(_own(ours, zone))), 'post')} of our own marked.")
    missing = _gaps(gaps, zone)
    if missing:
        more = f" and {counted(len(missing) - 3, 'more')}" if len(missing) > 3 else ""
        said.append(f"Not collected: {', '.join(_gap_words(gap) for gap in missing[:3])}{more}.")
    return " ".join(said)


def busiest(frame: pd.DataFrame, *, zone: str) -> str:
    """Return what a timeline found, for its title: "Busiest at 12:00, with 34 mentions". Pure."""
    buckets = [bucket for bucket in _buckets(frame, zone) if bucket.mentions is not None]
    return _busiest(buckets) if any(bucket.mentions for bucket in buckets) else "No mention yet"


def by_language(
    frame: pd.DataFrame, *, mode: Mode = "light", width: Width = "container", scale: float = 1, most: int = 12
) -> alt.LayerChart:
    """Draw spoken posts by language as bars with their numbers beside them, most first.

    Takes `language_frame`. Beyond `most` languages the rest is one bar; unsure stays a bar of its own.
    """
    rows = _languages(frame, most)
    data = alt.InlineData(values=cast("Any", rows))
    longest = max([1, *(row["spoken"] for row in rows)])
    order = alt.Y("name:N", sort=[row["name"] for row in rows], title=None, axis=alt.Axis(labelLimit=170 * scale))
    length = alt.X("spoken:Q", stack=None, scale=alt.Scale(domain=[0, longest * 1.3], zero=True), axis=None)
    bars = alt.Chart(data).mark_bar(color=BARS[mode], height={"band": 0.62}, cornerRadiusEnd=2).encode(order, length)
    numbers = (
        alt.Chart(data)
        .mark_text(align="left", dx=6 * scale, fontSize=13 * scale, color=INK[mode])
        .encode(order, length, alt.Text("label:N"))
    )
    height = int(28 * scale * max(1, len(rows)))
    return _finished([bars, numbers], by_language_words(frame), mode, height, width, scale, grid=False)


def by_language_words(frame: pd.DataFrame) -> str:
    """Return in one sentence which languages were spoken. Pure."""
    rows = _rows(frame)
    if not rows:
        return "No language yet."
    said = ", ".join(f"{row['name']} {row['spoken']:,}" for row in rows[:5])
    rest = f" and {counted(len(rows) - 5, 'further language')}" if len(rows) > 5 else ""
    return f"Spoken posts by language: {said}{rest}."


def as_svg(chart: alt.LayerChart) -> str:
    """Return the chart as SVG text, for reports and downloads. Needs no browser and asks no network."""
    import vl_convert

    return vl_convert.vegalite_to_svg(chart.to_json(), allowed_base_urls=[])


@dataclass(frozen=True, slots=True)
class _Bucket:
    """One bucket of one network, in wall time. `mentions` is None where nobody collected."""

    start: datetime
    end: datetime
    network: str
    spoken: int | None
    reposts: int | None
    mentions: int | None
    running: bool


@dataclass(frozen=True, slots=True)
class _Own:
    """One of our posts on one account, in wall time."""

    at: datetime
    message: str
    label: str


@dataclass(frozen=True, slots=True)
class _Gap:
    """What nobody collected of a network, in wall time."""

    start: datetime | None
    end: datetime | None
    name: str
    why: str


@dataclass(slots=True)
class _Pin:
    """One or more of our posts in one bucket, and how high its name stands; None where it found no room."""

    at: datetime
    mentions: int
    label: str
    when: str
    name_at: float | None = None


@dataclass(frozen=True, slots=True)
class _Plot:
    """What all layers over time agree on: sizes and scales."""

    mode: Mode
    height: int
    width: int
    scale: float
    start: datetime
    end: datetime
    top: float

    @classmethod
    def of(cls, buckets: Sequence[_Bucket], mode: Mode, height: int, width: int, scale: float) -> _Plot:
        """Return the plot of these buckets, with room above the highest bar for pins and names."""
        most = max((total for _, _, total in _totals(buckets)), default=0)
        start = min((b.start for b in buckets), default=datetime(1970, 1, 1, tzinfo=UTC))
        end = max((b.end for b in buckets), default=start + timedelta(days=1))
        return cls(mode, height, width, scale, start, end, max(4.0, most / max(0.4, 1 - 64 * scale / height)))

    @property
    def x(self) -> alt.Scale:
        """Return the scale of time. Wall time goes to Vega as if it were UTC, so that no viewer's zone moves it."""
        return alt.Scale(type="utc", domain=cast("Any", [_iso(self.start), _iso(self.end)]), nice=False)

    @property
    def y(self) -> alt.Scale:
        """Return the scale of counts: from 0."""
        return alt.Scale(domain=[0, self.top], zero=True, nice=False)

    def right(self, at: datetime) -> float:
        """Return where a moment stands, in pixels from the left."""
        return (at - self.start) / (self.end - self.start) * self.width

    def up(self, mentions: float) -> float:
        """Return how high a count stands, in pixels from the bottom."""
        return mentions / self.top * self.height


def _buckets(frame: pd.DataFrame, zone: str) -> list[_Bucket]:
    found = [
        _Bucket(
            _wall(row["at"], zone), _wall(row["until"], zone), row["network"], row["spoken"], row["reposts"],
            row["mentions"], row["running"],
        )
        for row in _rows(frame)
    ]  # fmt: skip
    rank = {network: place for place, network in enumerate(in_order(bucket.network for bucket in found))}
    return sorted(found, key=lambda bucket: (bucket.start, rank[bucket.network]))


def _own(frame: pd.DataFrame, zone: str) -> list[_Own]:
    rows = [_Own(_wall(row["at"], zone), row["message"], row["label"]) for row in _rows(frame)]
    return sorted(rows, key=lambda own: own.at)


def _gaps(frame: pd.DataFrame, zone: str) -> list[_Gap]:
    return [
        _Gap(
            _wall(row["from_at"], zone) if row["from_at"] else None,
            _wall(row["to_at"], zone) if row["to_at"] else None,
            row["name"],
            row["why"],
        )
        for row in _rows(frame)
    ]


def _totals(buckets: Sequence[_Bucket]) -> list[tuple[datetime, datetime, int]]:
    """Return begin, end and mentions on all networks of each bucket."""
    grouped = [(start, list(group)) for start, group in groupby(buckets, key=lambda bucket: bucket.start)]
    return [(start, group[0].end, sum(b.mentions or 0 for b in group)) for start, group in grouped]


def _bars(buckets: Sequence[_Bucket], plot: _Plot) -> alt.Chart:
    networks = in_order(bucket.network for bucket in buckets)
    names = [network_name(network) for network in networks]
    colours = [NETWORKS[plot.mode].get(network, SPARE[plot.mode]) for network in networks]
    return (
        alt.Chart(alt.InlineData(values=cast("Any", _stacked(buckets))))
        .mark_rect()
        .encode(
            alt.X("from:T", scale=plot.x, title=None, axis=_time_axis(plot)),
            alt.X2("to:T"),
            alt.Y("low:Q", scale=plot.y, title=None, axis=alt.Axis(format=",.0f", tickMinStep=1)),
            alt.Y2("high:Q"),
            alt.Color(
                "name:N",
                sort=names,
                scale=alt.Scale(domain=names, range=colours),
                legend=alt.Legend() if len(networks) > 1 else None,
            ),
            alt.Opacity("running:N", scale=alt.Scale(domain=[False, True], range=[1, 0.45]), legend=None),
            tooltip=[
                alt.Tooltip("when:N", title="Time"),
                alt.Tooltip("name:N", title="Network"),
                alt.Tooltip("mentions:Q", title="Mentions", format=",.0f"),
                alt.Tooltip("spoken:Q", title="Spoken", format=",.0f"),
                alt.Tooltip("reposts:Q", title="Reposts", format=",.0f"),
            ],
        )
    )


def _stacked(buckets: Sequence[_Bucket]) -> list[dict[str, Any]]:
    """Return the bars with their ends: the networks stand on one another in their order; what is 0 has no bar."""
    rows: list[dict[str, Any]] = []
    for start, group in groupby(buckets, key=lambda bucket: bucket.start):
        low = 0
        for bucket in group:
            if not bucket.mentions:
                continue
            air = (bucket.end - start) * 0.08
            rows.append(
                {
                    "from": _iso(start + air), "to": _iso(bucket.end - air), "low": low, "high": low + bucket.mentions,
                    "name": network_name(bucket.network), "running": bucket.running, "mentions": bucket.mentions,
                    "spoken": bucket.spoken, "reposts": bucket.reposts, "when": _span(start, bucket.end),
                }
            )  # fmt: skip
            low += bucket.mentions
    return rows


def _time_axis(plot: _Plot) -> alt.Axis:
    is_short = plot.end - plot.start <= timedelta(hours=36)
    ticks = max(2, int(plot.width / (90 * plot.scale)))
    return alt.Axis(format="%H:%M" if is_short else "%-d %b", labelAngle=0, labelOverlap=True, tickCount=ticks)


def _by_message(ours: Sequence[_Own]) -> list[_Own]:
    """Return each post once, where it came out first: one message on three accounts is one pin."""
    first: dict[str, _Own] = {}
    for own in ours:
        first.setdefault(own.message, own)
    return list(first.values())


def _pinned(buckets: Sequence[_Bucket], ours: Sequence[_Own]) -> list[_Pin]:
    pins: list[_Pin] = []
    posts = _by_message(ours)
    for start, end, total in _totals(buckets):
        inside = [own for own in posts if start <= own.at < end]
        if inside:
            label = _short(inside[0].label) if len(inside) == 1 else counted(len(inside), "post")
            when = ", ".join(f"{own.at:%H:%M}" for own in inside)
            pins.append(_Pin(start + (end - start) / 2, total, label, when))
    return pins


def _pins(pins: Sequence[_Pin], buckets: Sequence[_Bucket], taken: Sequence[Box], plot: _Plot) -> list[alt.Chart]:
    """Pin our posts above their bars; raise a name on a thin line until it meets nothing, or leave it out."""
    if not pins:
        return []
    _name(pins, buckets, list(taken), plot)
    rows = [
        {
            "at": _iso(pin.at), "mentions": pin.mentions, "label": pin.label, "when": pin.when,
            "stem": pin.mentions + (9 * plot.scale) / plot.height * plot.top,
            "name_at": None if pin.name_at is None else pin.name_at / plot.height * plot.top,
        }
        for pin in pins
    ]  # fmt: skip
    named = alt.InlineData(values=cast("Any", [row for row in rows if row["name_at"] is not None]))
    colour, scale = US[plot.mode], plot.scale
    at = alt.X("at:T", scale=plot.x)
    return [
        alt.Chart(named)
        .mark_rule(color=colour, opacity=0.4, strokeWidth=scale)
        .encode(at, alt.Y("stem:Q", scale=plot.y), alt.Y2("name_at:Q")),
        alt.Chart(alt.InlineData(values=cast("Any", rows)))
        .mark_point(shape="triangle-down", filled=True, size=70 * scale**2, color=colour, opacity=1, yOffset=-7 * scale)
        .encode(
            at,
            alt.Y("mentions:Q", scale=plot.y),
            tooltip=[alt.Tooltip("when:N", title="Our post"), alt.Tooltip("label:N", title="Name")],
        ),
        alt.Chart(named)
        .mark_text(baseline="bottom", dy=-2 * scale, fontSize=12 * scale, fontWeight=600, color=colour)
        .encode(at, alt.Y("name_at:Q", scale=plot.y), alt.Text("label:N")),
    ]


def _name(pins: Sequence[_Pin], buckets: Sequence[_Bucket], taken: list[Box], plot: _Plot) -> None:
    """Find room for each name, the busiest moments first."""
    taken += [(plot.right(start), plot.right(end), 0.0, plot.up(n)) for start, end, n in _totals(buckets)]
    triangles = [_triangle(pin, plot) for pin in pins]
    for pin in sorted(pins, key=lambda pin: -pin.mentions):
        own = _triangle(pin, plot)
        others = [*taken, *(box for box in triangles if box != own)]
        middle, half = plot.right(pin.at), len(pin.label) * 3.5 * plot.scale + 6
        low = own[3]
        while low + 16 * plot.scale <= plot.height:
            box = (middle - half, middle + half, low, low + 16 * plot.scale)
            stem = (middle - 1, middle + 1, own[3], low)
            is_inside = box[0] >= -30 and box[1] <= plot.width + 4
            if is_inside and not any(_meets(box, other) or _meets(stem, other) for other in others):
                pin.name_at = low
                taken += [box, stem]
                break
            low += 4 * plot.scale


def _triangle(pin: _Pin, plot: _Plot) -> Box:
    middle, low = plot.right(pin.at), plot.up(pin.mentions)
    return (middle - 5 * plot.scale, middle + 5 * plot.scale, low + 2 * plot.scale, low + 13 * plot.scale)


def _meets(one: Box, other: Box) -> bool:
    return one[0] < other[1] and other[0] < one[1] and one[2] < other[3] and other[2] < one[3]


def _gap_layers(gaps: Sequence[_Gap], plot: _Plot) -> tuple[list[alt.Chart], list[Box]]:
    """Hatch the gaps over the whole height and name them at the top; return the layers and the room that names take."""
    bands = [band for gap in gaps if (band := _band(gap, plot))]
    if not bands:
        return [], []
    names, taken = _gap_names(bands, plot)
    hatch = [line for start, end in _merged(bands) for line in _hatch(start, end, plot)]
    rows = [
        {
            "from": _iso(start), "to": _iso(end), "low": 0, "high": plot.top,
            "label": f"{gap.name}, {_span(start, end)}", "why": gap.why[:120],
        }
        for start, end, gap in bands
    ]  # fmt: skip
    grey = GREY[plot.mode]
    wide = (
        alt.X("from:T", scale=plot.x), alt.X2("to:T"), alt.Y("low:Q", scale=plot.y), alt.Y2("high:Q")
    )  # fmt: skip
    layers = [
        alt.Chart(alt.InlineData(values=cast("Any", rows)))
        .mark_rect(color=grey, opacity=0.08)
        .encode(
            *wide,
            tooltip=[alt.Tooltip("label:N", title="Not collected"), alt.Tooltip("why:N", title="Why")],
        ),
        alt.Chart(alt.InlineData(values=cast("Any", hatch)))
        .mark_rule(color=grey, opacity=0.5, strokeWidth=plot.scale)
        .encode(*wide),
        alt.Chart(alt.InlineData(values=cast("Any", names)))
        .mark_text(align="left", baseline="top", dx=4, fontSize=12 * plot.scale, color=grey)
        .encode(alt.X("at:T", scale=plot.x), alt.Y("low:Q", scale=plot.y), alt.Text("name:N")),
    ]
    return layers, taken


def _band(gap: _Gap, plot: _Plot) -> tuple[datetime, datetime, _Gap] | None:
    start, end = max(gap.start or plot.start, plot.start), min(gap.end or plot.end, plot.end)
    return (start, end, gap) if start < end else None


def _gap_names(bands: Sequence[tuple[datetime, datetime, _Gap]], plot: _Plot) -> tuple[list[dict[str, Any]], list[Box]]:
    """Name each stretch once, with all its networks, beside its left edge, or before it where the right is too near."""
    together: dict[tuple[datetime, datetime], list[str]] = {}
    for start, end, gap in bands:
        together.setdefault((start, end), []).append(gap.name)
    rows, taken = [], []
    for (start, _), networks in sorted(together.items(), key=lambda item: item[0]):
        name = f"{', '.join(dict.fromkeys(networks))}: not collected"
        wide, high = len(name) * 6.4 * plot.scale + 8, 16 * plot.scale
        left = min(plot.right(start), plot.width - wide)
        box = (left, left + wide, plot.height - high, float(plot.height))
        while any(_meets(box, other) for other in taken) and box[2] > plot.height / 2:
            box = (box[0], box[1], box[2] - high, box[3] - high)
        at = plot.start + (plot.end - plot.start) * (left / plot.width)
        rows.append({"at": _iso(at), "low": box[3] / plot.height * plot.top, "name": name})
        taken.append(box)
    return rows, taken


def _merged(bands: Sequence[tuple[datetime, datetime, _Gap]]) -> list[tuple[datetime, datetime]]:
    """Return what the bands cover, each moment once, so that no hatching lies on another."""
    merged: list[tuple[datetime, datetime]] = []
    for start, end, _ in sorted(bands, key=lambda band: band[0]):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _hatch(start: datetime, end: datetime, plot: _Plot) -> Iterator[dict[str, Any]]:
    """Yield lines of 45 degrees that fill a stretch and end at its sides, at most 200."""
    wide, high = plot.right(end) - plot.right(start), float(plot.height)
    per_pixel = (plot.end - plot.start) / plot.width
    step = max(9 * plot.scale, (wide + high) / 200)
    offset = step - high
    while offset < wide:
        left, right = max(0.0, offset), min(wide, offset + high)
        yield {
            "from": _iso(start + left * per_pixel), "to": _iso(start + right * per_pixel),
            "low": (left - offset) / high * plot.top, "high": (right - offset) / high * plot.top,
        }  # fmt: skip
        offset += step


def _network_words(buckets: Sequence[_Bucket]) -> str:
    networks = in_order(bucket.network for bucket in buckets)
    sums = {n: sum(b.mentions or 0 for b in buckets if b.network == n) for n in networks}
    if len(networks) == 1:
        return f"All on {network_name(networks[0])}."
    return f"By network: {', '.join(f'{network_name(n)} {posts:,}' for n, posts in sums.items())}."


def _busiest(buckets: Sequence[_Bucket]) -> str:
    start, end, most = max(_totals(buckets), key=lambda total: total[2])
    if end - start >= timedelta(hours=23):
        when = f"on {_day(start)}"
    else:
        is_short = buckets[-1].end - buckets[0].start <= timedelta(hours=36)
        when = f"at {start:%H:%M}" + ("" if is_short else f" on {_day(start)}")
    return f"Busiest {when}, with {counted(most, 'mention')}"


def _gap_words(gap: _Gap) -> str:
    start = _day_time(gap.start) if gap.start else "an unknown moment"
    return f"{gap.name} from {start} to {_day_time(gap.end) if gap.end else 'now'} ({gap.why})"


def _languages(frame: pd.DataFrame, most: int) -> list[dict[str, Any]]:
    rows = _rows(frame)
    total = sum(row["spoken"] for row in rows)
    sure = [(row["name"], row["spoken"]) for row in rows if row["language"] != UNSURE]
    listed = sure[:most]
    if sure[most:]:
        listed.append((counted(len(sure) - most, "further language"), sum(posts for _, posts in sure[most:])))
    listed += [(row["name"], row["spoken"]) for row in rows if row["language"] == UNSURE]
    return [{"name": name, "spoken": posts, "label": _posts_and_share(posts, total)} for name, posts in listed]


def _posts_and_share(posts: int, total: int) -> str:
    return f"{posts:,}" if total < 20 else f"{posts:,} · {percent(posts, total)}"


def _finished(
    layers: Sequence[alt.Chart],
    words: str,
    mode: Mode,
    height: int,
    width: Width,
    scale: float,
    *,
    grid: bool = True,
) -> alt.LayerChart:
    chart = alt.layer(*layers).properties(height=height, width=width, description=words)
    config = _config(mode, scale)
    if not grid:
        config["axisY"] = {**config["axisY"], "grid": False}
    return cast("alt.LayerChart", chart.configure(**config))


def _config(mode: Mode, scale: float) -> dict[str, Any]:
    size = 13 * scale
    return {
        "font": SANS,
        "background": "transparent",
        "view": {"stroke": None},
        "axis": {
            "labelFontSize": size, "titleFontSize": size, "titleFontWeight": 400, "domain": False, "ticks": False,
            "labelColor": GREY[mode], "titleColor": GREY[mode], "gridColor": GRID[mode],
        },
        "axisX": {"grid": False, "labelPadding": 8},
        "axisY": {"gridDash": [2, 3], "labelPadding": 8, "tickCount": 4},
        "legend": {
            "orient": "top", "direction": "horizontal", "title": None, "labelFontSize": size, "symbolType": "square",
            "symbolSize": 100 * scale**2, "offset": 8, "columnPadding": 16, "labelColor": GREY[mode],
        },
    }  # fmt: skip


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a frame as plain values: None for what is missing, moments, and words that can be drawn."""
    known = frame.astype(object).where(frame.notna(), None)
    rows = cast("list[dict[str, Any]]", known.to_dict("records"))
    return [{name: readable(one) if isinstance(one, str) else one for name, one in row.items()} for row in rows]


def _wall(at: datetime, zone: str) -> datetime:
    """Return the wall time of a moment, marked as UTC."""
    return datetime.fromtimestamp(at.timestamp(), ZoneInfo(zone)).replace(tzinfo=UTC)


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _day(at: datetime) -> str:
    return f"{at.day} {at:%B}"


def _day_time(at: datetime) -> str:
    return f"{_day(at)} {at:%H:%M}"


def _span(start: datetime, end: datetime) -> str:
    return f"{_day(start)} {start:%H:%M}–{end:%H:%M}" if end - start < timedelta(hours=23) else _day(start)


def _short(label: str) -> str:
    return label if len(label) <= 24 else label[:23].rstrip() + "…"
