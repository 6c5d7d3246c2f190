"""Report: one page that stands alone, says how it counts, and turns nothing that a stranger wrote into markup."""

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from shareasm.errors import DeskError
from shareasm.measure import definitions, measure
from shareasm.model import Counts, Hole, Removed, Seen
from shareasm.report import FORMATS, PLANNED, write_report
from shareasm.report.html import UNNAMED, link_of, page
from shareasm.store import Store, open_store
from shareasm.store.conversation import Candidate, Intake
from tests.servers import ROOT
from tests.servers.chromium import Browser
from tests.test_measure import CAMPAIGN, FOLDER, NOON, at, post, publish, put, with_mini_day

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=https://evil.example/x onerror=alert(1)>',
    "'><svg/onload=alert(1)>",
    "=cmd|' /C calc'!A0",
    "javascript:alert(1)",
    "{{ 7*7 }}{% raw %}",
    "]]>--></style></title><style>*{display:none}",
    "\u202egnp.exe\u0000\u0007",
    "🔥" * 500,
    "Z̸̢͓a̴͎l̷͇g̵o" * 80,
]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Store]:
    """A desk that knows the mini day's campaign and has heard nothing."""
    store = open_store(f"sqlite:///{tmp_path / 'desk.db'}")
    store.campaigns.save(CAMPAIGN, NOON)
    yield store
    store.close()


@pytest.fixture
def mini_day(desk: Store) -> Store:
    """The mini day, collected up to noon."""
    return with_mini_day(desk)


class Elements(HTMLParser):
    """Every element of a page with its attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if not self.found or self.found[-1][0] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def report(store: Store, *, now: datetime = NOON) -> str:
    """The page, as text."""
    return page(store, FOLDER, now)


def words(store: Store, *, now: datetime = NOON) -> str:
    """What a reader reads."""
    return Elements(report(store, now=now)).text


# What it says


def test_the_first_page_carries_the_headline_numbers_with_their_coverage(mini_day: Store) -> None:
    said = words(mini_day)
    for expected in (
        "The mini day", "Thursday 25 June 2015", "Europe/London", "#shareASM",
        "Mentions 8 6 spoken, 2 reposts", "Contributors 7 6 spoke, 1 only reposted; 1 of them ours",
        "Engagements 13 counts of 5 of 6 posts", "Could have seen it ≤ 1,600",
        "Complete until 12:00 UTC · Mastodon: partial by nature · Bluesky: complete · X: complete",
        "Made 25 June 2015, 13:00 (12:00 UTC)",
    ):  # fmt: skip
        assert expected in said


def test_reach_is_told_in_its_four_lines(mini_day: Store) -> None:
    said = words(mini_day)
    assert "Seen 900 views Views, not accounts, of 1 of 6 posts. Mastodon and Bluesky gave none." in said
    assert "Acted ≥ 6 accounts" in said
    assert "Could have seen 1,200 to 1,600 accounts" in said
    assert "(exactly 1,220 to 1,610, from 6 of 7 contributors)" in said
    assert "Concentration 62 % of all followers are the largest contributor’s. The largest five have 99 %" in said
    assert "Without the largest: 520 to 610 accounts" in said


def test_every_measure_is_defined_with_its_version(mini_day: Store) -> None:
    said = words(mini_day)
    for name, definition in definitions().items():
        assert f"{name}@{definition.version} {definition.unit} {definition.words}" in said


def test_a_measure_of_another_package_is_told_and_defined(mini_day: Store, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "our_measures.py").write_text(
        "from shareasm.measure.reading import Reading, measure\n\n\n"
        '@measure(version=3, unit="letters")\n'
        "def letters(reading: Reading) -> int:\n"
        '    """How long the name of the campaign is."""\n'
        "    return len(reading.campaign.name)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    said = Elements(page(mini_day, FOLDER, NOON, also=["our_measures"])).text
    definitions.cache_clear()
    assert "letters 12 letters" in said
    assert "letters@3 letters How long the name of the campaign is." in said


def test_a_gap_is_told_and_makes_every_count_a_lower_bound(mini_day: Store) -> None:
    put(mini_day, "bluesky", Intake(holes=[Hole(at("10:00"), at("10:07"), "server unreachable")], complete_until=NOON))
    said = words(mini_day)
    assert "Mentions ≥ 8" in said
    assert "Bluesky: 1 gap, 7 min" in said
    assert "Bluesky, bluesky.example: 25 June 2015, 11:00 to 11:07: server unreachable" in said


def test_what_nobody_heard_is_a_dash_and_not_a_zero(desk: Store) -> None:
    said = words(desk)
    assert "Mentions – nothing collected yet" in said
    assert "Contributors –" in said
    assert "Could have seen it – no follower counts yet" in said
    assert "Nothing collected yet" in said


def test_our_posts_stand_with_their_counts_and_a_link_that_shows_its_host(mini_day: Store) -> None:
    publish(mini_day, "welcome", "Good morning. #shareASM", url="https://x.example/iied/1", remote_id="m1")
    publish(mini_day, "geita", "From Geita.", network="mastodon", url="javascript:alert(1)")
    page_ = Elements(report(mini_day))
    links = [attributes for tag, attributes in page_.found if tag == "a"]
    assert [link["href"] for link in links] == ["https://x.example/iied/1"]
    assert links[0]["rel"] == "noopener noreferrer nofollow"
    assert "09:00 Good morning. #shareASM X x.example 4 2 1 0 900" in page_.text
    assert "09:00 From Geita. Mastodon org-mastodon – – – – –" in page_.text
    assert "▼ marks our own posts" in page_.text


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("https://x.example/a?b=c#d", "x.example"),
        ("https://x.example:8443/a", "x.example"),
        ("http://x.example/a", ""),
        ("javascript:alert(1)", ""),
        ("JaVaScRiPt:alert(1)//https://x.example", ""),
        ("data:text/html,<b>", ""),
        ("https://bank.example@evil.example/", ""),
        ("https://x.example/\nfoo", ""),
        (" https://x.example/", ""),
        ("https://аpple.example/", ""),
        ("https://[::1", ""),
        ("//x.example/a", ""),
        ("", ""),
    ],
)
def test_only_plain_https_becomes_a_link(address: str, host: str) -> None:
    assert link_of(address).host == host
    assert bool(link_of(address).address) == bool(host)


def test_a_rehearsal_says_so_before_anything_else(desk: Store) -> None:
    put(desk, "practice", Intake(candidates=[Candidate(post("p1", "08:00", "practice", "ana"), "shareASM")]))
    assert words(desk).startswith("The mini day: report")
    body = report(desk).split("<body>")[1]
    assert Elements(body).text.startswith("Rehearsal: the audience is simulated.")
    put(desk, "x", Intake(candidates=[Candidate(post("m1", "08:00", "x", "ana"), "shareASM")]))
    assert "Rehearsal: the audience of practice is simulated, and its numbers are added to those of X." in words(desk)


def test_a_real_day_is_no_rehearsal(mini_day: Store) -> None:
    assert "ehearsal" not in words(mini_day)


def test_a_campaign_of_several_days_names_both(desk: Store) -> None:
    desk.campaigns.save(replace(CAMPAIGN, end=at("12:00")), NOON)
    assert "25 June 2015, 00:00 to 25 June 2015, 13:00" in words(desk)


# Those who wrote it


def test_who_asked_not_to_be_named_is_counted_without_a_name(mini_day: Store) -> None:
    shy = post("s1", "10:30", "mastodon", "shy-one")
    shy = replace(shy, author=replace(shy.author, may_be_named=False))
    put(mini_day, "mastodon", Intake(candidates=[Candidate(shy, "shareASM", "en")]))
    said = words(mini_day)
    assert UNNAMED in said
    assert "shy-one" not in report(mini_day)
    assert "Shy-One" not in report(mini_day)


def test_who_deleted_everything_is_not_named_and_no_stranger_is_quoted(mini_day: Store) -> None:
    quoted = [word for word in ("m5 #shareASM", "m6 #shareASM") if word in report(mini_day)]
    assert quoted == []
    put(mini_day, "mastodon", Intake(removed=[Removed("mastodon", "m8")]))
    assert not re.search(r"\bkim\b", report(mini_day))


def hostile_day(store: Store) -> Store:
    """A day on which every field that a stranger fills in is hostile."""
    for place, evil in enumerate(HOSTILE):
        seen: Seen = post(f"e{place}", "09:00", "x", f"evil{place}", counts=Counts(1, 1, 1, 1), url=evil)
        seen = replace(seen, text=evil, author=replace(seen.author, handle=evil, name=evil))
        clean = evil.replace("\0", "")
        put(store, "x", Intake(candidates=[Candidate(seen, "shareASM", clean[:20])], complete_until=NOON))
    store.sources.failed(store.sources.open(store.campaigns.id_of(FOLDER), "x", HOSTILE[1], ""), NOON, HOSTILE[0])
    publish(store, "welcome", HOSTILE[0] + HOSTILE[6], url=HOSTILE[4])
    return store


def test_nothing_a_stranger_wrote_becomes_markup(desk: Store) -> None:
    desk.campaigns.save(replace(CAMPAIGN, name=HOSTILE[1], hashtags=(HOSTILE[0],)), NOON)
    found = Elements(report(hostile_day(desk)))
    tags = {tag for tag, _ in found.found}
    assert tags.isdisjoint({"script", "img", "iframe", "object", "embed", "link", "form", "base", "foreignobject"})
    assert [tag for tag, _ in found.found].count("style") == 1
    names = {name for _, attributes in found.found for name in attributes}
    assert not [name for name in names if name.startswith("on")]
    assert not [attributes for tag, attributes in found.found if tag == "a"]
    assert "<script>alert(1)</script>" in found.text
    assert "{{ 7*7 }}{% raw %}" in found.text


def test_a_flood_of_signs_ends_where_the_column_ends(desk: Store) -> None:
    text = report(hostile_day(desk))
    assert "🔥" * 59 + "…" in text
    assert "🔥" * 61 not in text
    assert "\u202e" not in text
    assert "\x07" not in text


def test_the_page_asks_nobody(mini_day: Store) -> None:
    publish(mini_day, "welcome", "Good morning.", url="https://x.example/iied/1")
    text = report(mini_day)
    for tag, attributes in Elements(text).found:
        asked = {"src", "srcset", "data", "poster", "xlink:href", "background", "action"} & set(attributes)
        assert not asked, (tag, attributes)
        assert tag == "a" or "href" not in attributes
    without_links = re.sub(r'<a class="host" href="[^"]*"', "<a", text)
    assert not re.findall(r"https?://|@import|url\(", without_links)
    assert "default-src 'none'" in text


def test_a_browser_shows_it_without_one_request_and_without_running_anything(desk: Store, browser: Browser) -> None:
    text = report(hostile_day(with_mini_day(desk)))
    for options in ({"color_scheme": "dark"}, {"viewport": {"width": 390, "height": 844}}):
        shown = browser.page(**options)
        said: list[str] = []
        shown.on("dialog", lambda dialog, said=said: said.append(dialog.message))
        shown.set_content(text)
        assert shown.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert shown.locator("h1").inner_text() == "The mini day"
        assert shown.locator("figure.chart svg").locator("visible=true").count() == 2
        assert said == []
    assert browser.hosts == set()


def test_dark_paints_the_charts_of_light(mini_day: Store, browser: Browser) -> None:
    shown = browser.page(color_scheme="dark")
    shown.set_content(report(mini_day))
    fills = shown.evaluate(
        "[...document.querySelectorAll('.wide [fill=\"#2E97C9\"]')].map(mark => getComputedStyle(mark).fill)"
    )
    assert set(fills) == {"rgb(79, 189, 235)"}


# Files and formats


def test_the_report_is_one_file_that_is_replaced_whole(mini_day: Store, tmp_path: Path) -> None:
    folder = tmp_path / "out" / "report"
    for _ in range(2):
        files = write_report(mini_day, FOLDER, folder, NOON, ["html", "html"])
        assert files == [folder / "report.html"]
    assert [file.name for file in folder.iterdir()] == ["report.html"]
    assert files[0].read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("name", PLANNED)
def test_a_format_that_is_not_built_is_refused_in_words_before_anything_is_written(
    mini_day: Store, tmp_path: Path, name: str
) -> None:
    with pytest.raises(DeskError, match=f"The format {name} is not built yet. Take html"):
        write_report(mini_day, FOLDER, tmp_path / "out", NOON, ["html", name])
    assert not (tmp_path / "out").exists()


def test_a_format_that_nobody_knows_names_the_nearest(mini_day: Store, tmp_path: Path) -> None:
    with pytest.raises(DeskError, match="Did you mean “html”"):
        write_report(mini_day, FOLDER, tmp_path, NOON, ["htm"])


def test_every_format_has_its_file() -> None:
    assert {name for name in FORMATS if (ROOT / "shareasm" / "report" / f"{name}.py").exists()} == set(FORMATS)


def test_the_report_says_the_numbers_of_the_measures(mini_day: Store) -> None:
    said = words(mini_day)
    for result in measure(mini_day, FOLDER, ["mentions", "contributors", "engagements"], now=NOON):
        assert f"{result.name.title()} {result.value['total']:,}" in said


def test_only_our_own_charts_and_colours_are_trusted_markup() -> None:
    tree = ast.parse((ROOT / "shareasm" / "report" / "html.py").read_text())
    trusting = [
        function.name
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for call in ast.walk(function)
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "Markup"
    ]
    assert sorted(trusting) == ["_dark_colours", "_inline"]
    template = (ROOT / "shareasm" / "report" / "templates" / "report.html").read_text()
    assert not re.findall(r"\|\s*safe|autoescape", template)
