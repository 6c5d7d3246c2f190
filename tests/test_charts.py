"""Charts: their specification, their words, and the same chart as SVG without a browser."""

import re
from collections.abc import Iterator
from datetime import timedelta
from itertools import groupby, pairwise
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest

from shareasm import charts
from shareasm.measure.frames import _GAPS, _LANGUAGES, _OWN, _TIMELINE, _frame
from tests.test_measure import at

EIGHT = at("08:00")
QUARTER = timedelta(minutes=15)
ZONE = "Europe/London"


def timeline(counts: dict[str, list[int | None]], *, running: int = -1) -> pd.DataFrame:
    """A frame of quarters of an hour: the mentions of each network, one after the other."""
    rows = [
        {
            "at": EIGHT + place * QUARTER, "until": EIGHT + (place + 1) * QUARTER, "network": network, "name": network,
            "spoken": count, "reposts": None if count is None else 0, "mentions": count, "running": place == running,
        }
        for place in range(max(map(len, counts.values())))
        for network, count in ((network, listed[place]) for network, listed in counts.items())
    ]  # fmt: skip
    return _frame(rows, _TIMELINE)


def own(*posts: tuple[str, str]) -> pd.DataFrame:
    """Our posts, by time in UTC and name."""
    blank = {name: None if dtype == "Int64" else "" for name, dtype in _OWN.items()}
    return _frame([{**blank, "at": at(when), "message": name, "label": name} for when, name in posts], _OWN)


def gap(start: str, end: str, *, name: str = "X", why: str = "down") -> pd.DataFrame:
    """One stretch that nobody collected."""
    return _frame([{"from_at": at(start), "to_at": at(end), "network": name.lower(), "name": name, "why": why}], _GAPS)


def languages(**posts: int) -> pd.DataFrame:
    """Spoken posts by language, as they are ranked."""
    return _frame([{"language": c, "name": c, "spoken": n, "share": None} for c, n in posts.items()], _LANGUAGES)


NO_POSTS, NO_GAPS = _frame([], _OWN), _frame([], _GAPS)
THREE = {"x": [4, 0, 2, 8], "mastodon": [1, 0, 0, 3], "practice": [0, 1, 0, 0], "bluesky": [2, 0, None, 5]}


def drawn(frame: pd.DataFrame, ours: pd.DataFrame = NO_POSTS, gaps: pd.DataFrame = NO_GAPS, **options: Any) -> dict:
    """The specification of the chart over time."""
    return charts.mentions_over_time(frame, ours, gaps, zone=ZONE, **options).to_dict()


def layers(spec: dict[str, Any], mark: str) -> list[dict[str, Any]]:
    """The layers of a chart with this mark."""
    return [layer for layer in spec["layer"] if layer["mark"]["type"] == mark]


def data(spec: dict[str, Any], layer: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows that a layer draws."""
    held = layer.get("data", spec.get("data"))
    return held["values"] if "values" in held else spec["datasets"][held["name"]]


def bars(spec: dict[str, Any]) -> dict[str, Any]:
    """The layer of the bars: the rectangles that have a colour per network."""
    (found,) = [layer for layer in layers(spec, "rect") if "color" in layer["encoding"]]
    return found


def fields(spec: object) -> Iterator[dict[str, Any]]:
    """Every encoding that names a field."""
    if isinstance(spec, dict):
        if "field" in spec:
            yield spec
        for value in spec.values():
            yield from fields(value)
    elif isinstance(spec, list):
        for value in spec:
            yield from fields(value)


def test_networks_stand_on_one_another_in_their_fixed_order() -> None:
    spec = drawn(timeline(THREE))
    scale = bars(spec)["encoding"]["color"]["scale"]
    assert scale["domain"] == ["Mastodon", "Bluesky", "X", "practice"]
    assert scale["range"] == ["#5B4FC4", "#2E97C9", "#26303B", "#8A9099"]
    rows = data(spec, bars(spec))
    last = [(row["name"], row["low"], row["high"]) for row in rows if row["from"] > "2015-06-25T09:45"]
    assert last == [("Mastodon", 0, 3), ("Bluesky", 3, 8), ("X", 8, 16)]


def test_the_axis_of_counts_begins_at_zero_and_leaves_room_for_the_pins() -> None:
    scale = bars(drawn(timeline(THREE)))["encoding"]["y"]["scale"]
    assert scale["domain"][0] == 0
    assert scale["zero"] is True
    assert scale["domain"][1] > 16


def test_every_bar_stands_on_the_one_below_and_what_is_zero_has_none() -> None:
    spec = drawn(timeline(THREE))
    rows = data(spec, bars(spec))
    assert sum(row["high"] - row["low"] for row in rows) == 26
    assert all(row["high"] > row["low"] for row in rows)
    for _, stack in groupby(rows, key=lambda row: row["from"]):
        heights = list(stack)
        assert heights[0]["low"] == 0
        assert all(above["low"] == below["high"] for below, above in pairwise(heights))


def test_times_are_the_wall_time_of_the_campaigns_zone_wherever_it_is_looked_at() -> None:
    encoding = bars(drawn(timeline({"x": [4]})))["encoding"]
    assert encoding["x"]["scale"]["type"] == "utc"
    assert encoding["x"]["scale"]["domain"] == ["2015-06-25T09:00:00.000Z", "2015-06-25T09:15:00.000Z"]


def test_every_field_has_its_type_so_that_nothing_is_guessed() -> None:
    spec = drawn(timeline(THREE), own(("08:05", "Welcome")), gap("08:30", "09:00"))
    spans = {"x2", "y2"}
    for layer in spec["layer"]:
        for channel, encoding in layer["encoding"].items():
            assert channel in spans or all("type" in field for field in fields(encoding)), (channel, encoding)


def test_the_running_bucket_is_pale() -> None:
    spec = drawn(timeline({"x": [4, 5]}, running=1))
    assert [row["running"] for row in data(spec, bars(spec))] == [False, True]
    assert bars(spec)["encoding"]["opacity"]["scale"]["range"] == [1, 0.45]


def test_practice_alone_is_grey_without_a_legend_and_our_posts_stay_warm() -> None:
    spec = drawn(timeline({"practice": [4, 9]}), own(("08:20", "Welcome")))
    assert bars(spec)["encoding"]["color"]["scale"]["range"] == [charts.SPARE["light"]]
    assert bars(spec)["encoding"]["color"]["legend"] is None
    assert {layer["mark"]["color"] for layer in layers(spec, "point") + layers(spec, "text")} == {charts.US["light"]}


def test_a_post_is_pinned_once_though_it_went_out_on_three_accounts() -> None:
    ours = own(
        ("08:05", "Welcome"), ("08:06", "Welcome"), ("08:20", "Geita"), ("08:21", "Women"), ("23:00", "Too late")
    )
    spec = drawn(timeline({"x": [4, 9, 3, 2]}), ours)
    (pins,) = layers(spec, "point")
    assert [(row["label"], row["mentions"]) for row in data(spec, pins)] == [("Welcome", 4), ("2 posts", 9)]
    assert pins["mark"]["shape"] == "triangle-down"


def test_names_never_meet_a_bar_or_another_name() -> None:
    counts: list[int | None] = [(place * 7) % 23 for place in range(40)]
    posts = [((at("08:00") + place * QUARTER).strftime("%H:%M"), f"A post named {place}") for place in range(0, 40, 2)]
    frame = timeline({"x": counts})
    plot = charts._Plot.of(charts._buckets(frame, ZONE), "light", 320, 720, 1)
    pins = charts._pinned(charts._buckets(frame, ZONE), charts._own(own(*posts), ZONE))
    charts._name(pins, charts._buckets(frame, ZONE), [], plot)
    named = [pin for pin in pins if pin.name_at is not None]
    boxes = [
        (plot.right(pin.at) - len(pin.label) * 3.4, plot.right(pin.at) + len(pin.label) * 3.4, pin.name_at or 0)
        for pin in named
    ]
    assert 3 <= len(named) < len(pins)
    for place, (left, right, low) in enumerate(boxes):
        assert not any(
            left < other[1] and other[0] < right and abs(low - other[2]) < 16 for other in boxes[place + 1 :]
        )
        for start, end, total in charts._totals(charts._buckets(frame, ZONE)):
            assert not (left < plot.right(end) and plot.right(start) < right and plot.up(total) > low)


def test_a_gap_is_hatched_and_named_and_its_reason_is_in_the_tooltip() -> None:
    spec = drawn(timeline(THREE), gaps=gap("08:30", "09:00", why="server unreachable"))
    hatch = next(layer for layer in layers(spec, "rule"))
    inside = [
        "2015-06-25T09:30:00.000Z" <= row["from"] <= row["to"] <= "2015-06-25T10:00:00.000Z"
        for row in data(spec, hatch)
    ]
    assert len(inside) > 5
    assert all(inside)
    assert [row["name"] for row in data(spec, layers(spec, "text")[0])] == ["X: not collected"]
    band = next(layer for layer in layers(spec, "rect") if "color" not in layer["encoding"])
    assert data(spec, band)[0]["why"] == "server unreachable"


def test_one_stretch_that_two_networks_miss_is_named_once() -> None:
    both = pd.concat([gap("08:30", "09:00"), gap("08:30", "09:00", name="Bluesky")])
    spec = drawn(timeline(THREE), gaps=both)
    assert [row["name"] for row in data(spec, layers(spec, "text")[0])] == ["X, Bluesky: not collected"]


def test_a_gap_without_known_ends_covers_what_is_drawn() -> None:
    endless = _frame([{"from_at": None, "to_at": None, "network": "x", "name": "X", "why": "?"}], _GAPS)
    spec = drawn(timeline(THREE), gaps=endless)
    band = data(spec, next(layer for layer in layers(spec, "rect") if "color" not in layer["encoding"]))[0]
    assert (band["from"], band["to"]) == ("2015-06-25T09:00:00.000Z", "2015-06-25T10:00:00.000Z")
    words = charts.mentions_over_time_words(timeline(THREE), NO_POSTS, endless, zone=ZONE)
    assert "Not collected: X from an unknown moment to now (?)." in words


def test_more_points_than_a_page_carries_are_refused() -> None:
    with pytest.raises(ValueError, match="1,501 points"):
        drawn(timeline({"x": [1] * 1_501}))
    drawn(timeline({"x": [1] * 1_500}))


def test_an_empty_day_is_a_chart_too() -> None:
    assert "No mention yet." in drawn(_frame([], _TIMELINE))["description"]
    assert charts.as_svg(charts.mentions_over_time(timeline({"x": [None, 0]}), NO_POSTS, NO_GAPS, zone=ZONE, width=400))
    assert charts.busiest(_frame([], _TIMELINE), zone=ZONE) == "No mention yet"
    assert charts.by_language(languages()).to_dict()["description"] == "No language yet."


def test_the_words_say_what_the_chart_shows() -> None:
    words = charts.mentions_over_time_words(
        timeline(THREE), own(("08:05", "Welcome")), gap("08:30", "09:00", why="server unreachable"), zone=ZONE
    )
    assert words == (
        "26 mentions from 25 June 09:00 to 25 June 10:00, Europe/London time. "
        "By network: Mastodon 4, Bluesky 7, X 14, practice 1. Busiest at 09:45, with 16 mentions. "
        "1 post of our own marked. Not collected: X from 25 June 09:30 to 25 June 10:00 (server unreachable)."
    )
    assert drawn(timeline(THREE))["description"].startswith("26 mentions")


def test_languages_are_bars_from_zero_with_their_numbers_beside_them() -> None:
    spec = charts.by_language(languages(English=30, Swahili=12, French=9, unsure=9), most=2).to_dict()
    rows = data(spec, spec["layer"][0])
    assert [(row["name"], row["label"]) for row in rows] == [
        ("English", "30 · 50 %"), ("Swahili", "12 · 20 %"), ("1 further language", "9 · 15 %"), ("unsure", "9 · 15 %"),
    ]  # fmt: skip
    assert spec["layer"][0]["encoding"]["x"]["scale"]["domain"][0] == 0
    assert spec["description"] == "Spoken posts by language: English 30, Swahili 12, French 9, unsure 9."


def test_few_posts_have_no_percent() -> None:
    spec = charts.by_language(languages(English=3, Swahili=2)).to_dict()
    assert [row["label"] for row in data(spec, spec["layer"][0])] == ["3", "2"]


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_a_chart_is_an_image_without_a_browser_and_without_a_network(mode: charts.Mode) -> None:
    hostile = '"><script>alert(1)</script>'
    frame = timeline({**THREE, hostile: [1, 2, 3, 4]})
    chart = charts.mentions_over_time(
        frame,
        own(("08:05", hostile)),
        gap("08:30", "09:00", name=hostile, why=hostile),
        zone=ZONE,
        mode=mode,
        width=700,
    )
    language = charts.by_language(languages(**{hostile: 3}), mode=mode, width=300)
    for svg in (charts.as_svg(chart), charts.as_svg(language)):
        names = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(svg).iter()}  # noqa: S314 - ours
        assert names <= {"svg", "defs", "g", "path", "rect", "text", "line", "clipPath", "title"}
        assert not re.findall(r"(?:href|src|url\()\s*=?\s*[\"']?https?:", svg)
        assert charts.INK[mode] in svg or charts.US[mode] in svg


def test_no_sign_of_a_stranger_ends_the_process_that_draws() -> None:
    unreadable = "".join(map(chr, [*range(0x20), *range(0x7F, 0xA0), 0xFFFE, 0xFFFF, 0x202E, 0x2066]))
    svg = charts.as_svg(charts.by_language(languages(**{f"a{unreadable}\u200db": 3}), width=300))
    assert "a\u200db" in svg.replace("\t", "").replace("\n", "")


def test_on_the_wall_everything_grows_together() -> None:
    small, large = (drawn(timeline(THREE), own(("08:05", "Welcome")), scale=scale) for scale in (1, 2))
    assert large["config"]["axis"]["labelFontSize"] == 2 * small["config"]["axis"]["labelFontSize"]
    assert layers(large, "text")[0]["mark"]["fontSize"] == 2 * layers(small, "text")[0]["mark"]["fontSize"]
