"""How each network counts a text, and what in it is a hashtag, a link or a mention."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shareasm.model import Ambiguous, Campaign, Limits
from shareasm.text import (
    TagRule,
    bare_domains,
    campaign_tag,
    detect_language,
    did_you_mean,
    fold_tag,
    hashtags,
    links,
    mentions,
    nearest,
    overrun,
    weigh,
)

unhurried = settings(deadline=None)  # the machine may be busy

X = Limits("weighted", 280, link_weight=23)
BLUESKY = Limits("graphemes", 300, bytes=3_000)
MASTODON = Limits("characters", 500, link_weight=23)

CAMPAIGN = Campaign(
    folder="2015-06-25-shareasm",
    name="#shareASM 2015",
    hashtags=("shareASM",),
    start=datetime(2015, 6, 24, 23, tzinfo=UTC),
    end=datetime(2015, 6, 25, 23, tzinfo=UTC),
    time_zone="Europe/London",
    variants=("shareASM2015", "share_ASM"),
    broken=("A&SM",),
    ambiguous=(Ambiguous("ASM", ("mining", "miners", "madini", "mina de oro")),),
    look_alikes=("shareAsMarkdown", "ShareASmile"),
)


@pytest.mark.parametrize(
    ("text", "weight"),
    [
        ("م" * 280, 280),
        ("न" * 280, 280),
        ("採" * 141, 282),
        ("ሰ" * 140, 280),
        ("ሰ" * 141, 282),
        ("የማዕድን ሰራተኞች #shareASM", 31),
        ("e\u0301", 1),
        ("e\u0301" * 280, 280),
        ("\u200c", 1),
        ("\u200d", 1),
        *((sign, 2) for sign in "…•€©™"),
        *((sign, 1) for sign in "–—“\u00a0"),
        *((emoji, 2) for emoji in ("👩‍👩‍👧", "👷🏾‍♀️", "🇰🇪", "1️⃣", "❤️", "👍🏿")),
        ("😀" * 140, 280),
        ("😀" * 141, 282),
        ("#shareASM visit asm.org now", 43),
        ("readme.md", 23),
        ("main.py", 23),
        ("call.me", 23),
        ("end.Next start", 29),
        ("v1.2.3", 6),
        ("Thank you.We dig", 16),
        ("https://sub.domain.co.tz/p?q=1#f", 23),
        ("see https://example.org.", 28),
        ("https://example.org採掘", 27),
        ("(https://a.org)", 25),
        ("info@asm.org", 12),
        ("#asm.org", 8),
        ("@asm.org", 8),
        ("http://localhost", 16),
        ("https://shareasm.example/x", 26),
        ("x" * 256 + " https://www.iied.org/asm", 280),
        ("", 0),
    ],
)
def test_x_weighs_a_text_as_its_own_library_does(text: str, weight: int) -> None:
    assert weigh(text, X) == weight


@pytest.mark.parametrize(
    ("text", "weight"),
    [
        ("see example.org/a_(b), and b.org", 4 + 23 + 6 + 23),
        ("https://en.wikipedia.org/wiki/Mine_(a_(b))", 23),
        ("採example.org", 2 + 23),
        ("a-.org a_b.org", 14),
        ("https://मजदूर.भारत/x", 23),
        ("http://a.org/x http://b.org", 23 + 1 + 23),
    ],
)
def test_x_finds_links_where_twitter_text_finds_them(text: str, weight: int) -> None:
    assert weigh(text, X) == weight


@pytest.mark.parametrize(
    ("text", "count"),
    [("नमस्ते", 3), ("क्षत्रिय", 3), ("👩‍👩‍👧‍👦", 1), ("🇰🇪🇹🇿", 2), ("e\u0301", 1), ("https://a.org", 13), ("አዲስ", 3)],
)
def test_bluesky_counts_true_graphemes(text: str, count: int) -> None:
    assert weigh(text, BLUESKY) == count


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("https://www.iied.org/a/very/long/path?with=a&query=too", 23),
        ("see https://a.org.", 4 + 23 + 1),
        ("(http://a.org/x)", 25),
        ("visit iied.org", 14),
        ("thank you @iied@mastodon.social!", 16),
        ("mail me@iied.org", 16),
        ("नमस्ते", 3),
    ],
)
def test_mastodon_counts_links_as_one_length_and_handles_without_their_server(text: str, count: int) -> None:
    assert weigh(text, MASTODON) == count


def test_a_content_warning_counts_on_mastodon_alone() -> None:
    assert weigh("mercury", MASTODON, warning="injury") == 13
    assert weigh("mercury", BLUESKY, warning="injury") == weigh("mercury", X, warning="injury") == 7


def test_an_overrun_says_how_much_of_what() -> None:
    assert overrun("x" * 291, X) == "291 of 280"
    assert overrun("x" * 280, X) is None
    assert overrun("👩‍👩‍👧" * 200, BLUESKY) == "3,600 of 3,000 bytes"
    assert overrun("x" * 301, BLUESKY) == "301 of 300"


@unhurried
@given(st.text(), st.sampled_from([X, BLUESKY, MASTODON]))
def test_counting_does_not_depend_on_how_accents_were_typed(text: str, limits: Limits) -> None:
    assert weigh(unicodedata.normalize("NFC", text), limits) == weigh(unicodedata.normalize("NFD", text), limits)


@unhurried
@given(st.text(), st.text(), st.sampled_from([X, BLUESKY, MASTODON]))
def test_two_paragraphs_count_what_each_counts_and_one_line_break(one: str, two: str, limits: Limits) -> None:
    one, two = (text.replace("\r", " ") for text in (one, two))  # a line break of two signs is one grapheme
    assert weigh(f"{one}\n{two}", limits) == weigh(one, limits) + 1 + weigh(two, limits)


def test_a_bare_domain_is_named_with_the_missing_space_that_made_it() -> None:
    assert bare_domains("The end.Next: asm.org and https://iied.org/x, not v1.2 or you.We") == ["end.Next", "asm.org"]


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("#shareASM!", ["shareASM"]),
        ("＃shareasm (#one),#two “#three”", ["shareasm", "one", "two", "three"]),
        ("❤️#love 🎉#day", ["love", "day"]),
        ("#खनन #የማዕድን #minería_2015", ["खनन", "የማዕድን", "minería_2015"]),
        ("#share\u200bASM", ["share\u200bASM"]),
        ("#A&SM", ["A"]),
        ("#1 #2015 # ## #_", []),
        ("é#no a#no 1#no _#no &#no", []),
        ("https://iied.org/#shareASM https://a.org?x=#no", []),
    ],
)
def test_a_hashtag_is_a_token(text: str, tags: list[str]) -> None:
    assert [span.text for span in hashtags(text)] == tags


def test_spans_stand_in_characters_and_in_bytes() -> None:
    text = "é☕ #खनन at https://iied.org/é, thanks @iied.org"
    for span in [*hashtags(text), *links(text), *mentions(text)]:
        assert text[span.start : span.end] == text.encode()[span.byte_start : span.byte_end].decode()
    assert [text[span.start : span.end] for span in hashtags(text)] == ["#खनन"]
    assert [span.text for span in links(text)] == ["https://iied.org/é"]
    assert [span.text for span in mentions(text)] == ["iied.org"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("see (https://a.org/x_(y)).", ["https://a.org/x_(y)"]),
        ("“http://a.org” and HTTPS://B.ORG…", ["http://a.org", "HTTPS://B.ORG"]),
        ("a.org, http://, xhttps://a.org", []),
    ],
)
def test_a_link_ends_where_its_sentence_goes_on(text: str, found: list[str]) -> None:
    assert [span.text for span in links(text)] == found


@unhurried
@given(st.text(alphabet="#＃a@.:/hé採\u200b_ )(ﬀ'"))
def test_no_text_breaks_a_span(text: str) -> None:
    for span in [*hashtags(text), *links(text), *mentions(text)]:
        assert text[span.start : span.end] == text.encode()[span.byte_start : span.byte_end].decode()


@pytest.mark.parametrize(
    "tag", ["#shareASM", "SHAREASM", "＃shareasm", "share\u200bASM", "ｓｈａｒｅＡＳＭ", "#Share\u00adAsm"]
)
def test_hashtags_are_compared_without_case_width_and_what_nobody_sees(tag: str) -> None:
    assert fold_tag(tag) == "shareasm"


@unhurried
@given(st.text())
def test_folding_a_hashtag_twice_changes_nothing(tag: str) -> None:
    assert fold_tag(fold_tag(tag)) == fold_tag(tag)


@pytest.mark.parametrize(
    ("text", "spelling"),
    [
        ("#shareASM!", "shareASM"),
        ("good day #SHAREASM2015", "shareASM2015"),
        ("#share_asm", "share_ASM"),
        ("#share_asm and #shareasm", "share_ASM"),
        ("#shareASMarkdown #ShareASmile", None),
        ("shareASM", None),
        ("so much #A&SM today", "A&SM"),
        ("so much #a&amp;sm today", "A&SM"),
        ("#A&SMs", None),
        ("#ASM in summer", None),
        ("#ASM and small-scale MINING", "ASM"),
        ("#ASM #Miners", "ASM"),
        ("#ASM: una mina de oro", "ASM"),
        ("#ASM undermining", None),
        ("", None),
    ],
)
def test_a_text_belongs_to_the_campaign_by_its_spelling(text: str, spelling: str | None) -> None:
    assert campaign_tag(CAMPAIGN, text) == spelling


def test_the_networks_own_tags_count_though_the_text_shows_none() -> None:
    rule = TagRule.of(CAMPAIGN)
    assert rule.match("no tag to be seen", ["other", "ShareAsm"]) == "shareASM"
    assert rule.match("gold", ["ASM", "mining"]) == "ASM"
    assert rule.match("gold", ["ShareASmile"]) is None


def test_a_look_alike_never_counts_though_it_is_listed_as_a_variant_too() -> None:
    campaign = replace(CAMPAIGN, variants=("ShareASmile",))
    assert campaign_tag(campaign, "#ShareASmile") is None


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Leo ni siku ya uchimbaji mdogo wa madini, sauti zao husikika kwa nadra #shareASM", "sw"),
        ("Los mineros artesanales cuentan hoy su historia https://iied.org/asm", "es"),
        ("የማዕድን ሰራተኞች ዛሬ ስለ ሥራቸው ይናገራሉ እና ሁሉም ያዳምጣል", "am"),
    ],
)
def test_the_language_is_told_from_the_words(text: str, language: str) -> None:
    assert detect_language(text)[0] == language


@pytest.mark.parametrize(
    "text", ["", "gold", "#shareASM #mining #artisanal https://www.iied.org/artisanal-mining", "👍" * 40]
)
def test_a_language_is_not_told_from_too_little(text: str) -> None:
    assert detect_language(text) == ("unsure", 0.0)


def test_the_nearest_known_word_is_named() -> None:
    assert nearest("publsh_at", ["publish_at", "lang"]) == "publish_at"
    assert nearest("xyz", ["publish_at", "lang"]) is None
    assert did_you_mean("Serverr", ["server"]) == "Did you mean “server”?"
    assert did_you_mean("zzz", ["server", "handle"]) == "Known are server, handle."
