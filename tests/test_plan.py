"""A campaign's folder: its posts, what is wrong with them, and what an approval fixes."""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from shareasm.errors import PlanError, Problem
from shareasm.model import Campaign, Limits, Post
from shareasm.plan.approval import delivery_id, freeze, record_key, texts_for
from shareasm.plan.check import check_plan, check_post
from shareasm.plan.files import CampaignPlan, campaign_folders, read_campaign, read_campaign_file, read_post_file
from shareasm.plan.media import Picture, changed_media, read_media, read_picture

unhurried = settings(deadline=None)  # the machine may be busy

ACCOUNTS = {"org-x": "x", "org-bluesky": "bluesky", "org-mastodon": "mastodon"}
LIMITS = {
    "x": Limits("weighted", 280, link_weight=23),
    "bluesky": Limits("graphemes", 300, bytes=3_000, picture_bytes=2_000, cards=True),
    "mastodon": Limits("characters", 500, link_weight=23, alt_text=1_500),
}
EVE = datetime(2015, 6, 24, 12, tzinfo=UTC)

CAMPAIGN_TOML = """
name = "#shareASM 2015"
hashtags = ["shareASM"]
variants = ["shareASM2015", "share_ASM"]
broken = ["A&SM"]
ambiguous = [{ tag = "ASM", with = ["mining", "miner", "miners", "minería", "madini", "mines"] }]
look_alikes = ["shareAsMarkdown", "ShareASmile"]
start = 2015-06-25T00:00:00
end = 2015-06-26T00:00:00
time_zone = "Europe/London"
accounts = ["org-x", "org-bluesky", "org-mastodon"]
languages = ["en", "sw", "es", "fr", "hi", "am", "mg"]
countries = ["TZ", "ET", "CO", "PE", "BO", "IN"]
groups = ["miner", "community", "government", "company", "researcher", "NGO", "donor", "media"]
not_after = "15m"
retention = "2 years"
servers = { mastodon = ["https://mastodon.social", "https://fosstodon.org"] }
[targets]
"voices.miner.share" = 0.25
"unanswered.all" = { at_most = 0.10 }
"first_time.all" = 50
"""

WELCOME = """\
---
id: welcome
publish_at: 2015-06-25T08:00
tz: {en: Europe/London, sw: Africa/Dar_es_Salaam}
lang: [en, sw]
accounts: {en: [org-x, org-bluesky, org-mastodon], sw: [org-bluesky, org-mastodon]}
status: ready
not_after: 2h
link: https://www.iied.org/asm
media: [{file: geita-drillers.jpg, alt: {en: "Two drillers in helmets work by lamplight.", sw: "Wachimbaji wawili."}}]
---
## en
Today is #shareASM day. 20-30 million people live from artisanal and small-scale mining, and too few of them are heard.
Miners, communities, researchers, governments: share your work, what succeeded and what failed. We answer all day.
---
Start with the human story of gold mining, from Geita: "Gold mining, the search for common ground".

## en / x
Today is #shareASM day: miners, communities, researchers, governments, share your work on small-scale mining, \
what succeeded and what failed. We answer all day.

## sw
Leo ni siku ya #shareASM. Watu milioni 20-30 wanaishi kwa kutegemea uchimbaji mdogo wa madini.
Wachimbaji, jamii, watafiti, serikali: tushirikisheni kazi zenu. Tunajibu siku nzima.
"""

SHORT = """\
---
id: short
publish_at: 2015-06-25T09:00
lang: en
status: ready
---
#shareASM begins.
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A campaign's folder with nothing but its campaign.toml and one picture."""
    folder = tmp_path / "scheduled_posts" / "2015-06-25-shareasm"
    (folder / "media").mkdir(parents=True)
    (folder / "campaign.toml").write_text(CAMPAIGN_TOML)
    (folder / "media" / "geita-drillers.jpg").write_bytes(picture())
    return folder


def picture(kind: str = "JPEG", size: tuple[int, int] = (40, 30)) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", size, "#B4420F").save(buffer, kind)
    return buffer.getvalue()


def read(folder: Path, **files: str) -> CampaignPlan:
    for name, text in files.items():
        (folder / f"{name}.md").write_text(text)
    return read_campaign(folder, desk_accounts=list(ACCOUNTS), tz_default="UTC")


def check(folder: Path, *, now: datetime = EVE, **files: str) -> CampaignPlan:
    return check_plan(read(folder, **files), limits=LIMITS, accounts=ACCOUNTS, now=now)


def told(plan: CampaignPlan) -> list[str]:
    return [str(problem).removeprefix("scheduled_posts/2015-06-25-shareasm/") for problem in plan.problems]


def post_with(text: str = "#shareASM begins.", **keys: str) -> str:
    header = {"id": "short", "publish_at": "2015-06-25T09:00", "lang": "en", "status": "ready"} | keys
    return "---\n" + "".join(f"{key}: {value}\n" for key, value in header.items() if value) + f"---\n{text}\n"


# A campaign


def test_a_campaign_is_read_from_its_file(folder: Path) -> None:
    campaign = read(folder).campaign
    assert (campaign.folder, campaign.name) == ("2015-06-25-shareasm", "#shareASM 2015")
    assert (campaign.start, campaign.end) == (
        datetime(2015, 6, 24, 23, tzinfo=UTC),
        datetime(2015, 6, 25, 23, tzinfo=UTC),
    )
    assert campaign.ambiguous[0].beside[:2] == ("mining", "miner")
    assert campaign.servers == {"mastodon": ("https://mastodon.social", "https://fosstodon.org")}
    assert campaign.targets["unanswered.all"] == {"at_most": 0.10}
    assert campaign.not_after == timedelta(minutes=15)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("look_alikes", "lookalikes", "key lookalikes is not known. Did you mean “look_alikes”?"),
        ('hashtags = ["shareASM"]', "", "key hashtags is missing."),
        ('hashtags = ["shareASM"]', 'hashtags = ["A&SM"]', "Networks cut it to “A”: list it under broken."),
        ("end = 2015-06-26T00:00:00", "end = 2015-06-24T00:00:00", "key end is not after start."),
        ("start = 2015-06-25T00:00:00", "start = 2015-03-29T01:30:00", "01:30 on 29 March 2015 does not exist"),
        ("start = 2015-06-25T00:00:00", "start = true", "key start must be a time."),
        ("Europe/London", "Europe/Londn", "Did you mean “Europe/London”?"),
        ('not_after = "15m"', 'not_after = "soon"', "key not_after “soon” is not a length of time."),
        ('variants = ["', 'variants = [7, "', "key variants must be a list of texts in quotes."),
        ("with = [", "beside = [", "key ambiguous[1].beside is not known."),
        ("name = ", "name == ", "campaign.toml:2: This line is not TOML"),
    ],
)
def test_a_mistake_in_campaign_toml_is_told_by_its_key(folder: Path, old: str, new: str, message: str) -> None:
    file = folder / "campaign.toml"
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(PlanError) as caught:
        read_campaign_file(folder, tz_default="UTC")
    assert message in str(caught.value)
    assert "scheduled_posts/2015-06-25-shareasm/campaign.toml" in str(caught.value)


def test_a_day_may_be_written_as_a_date_with_the_desks_zone(folder: Path) -> None:
    (folder / "campaign.toml").write_text(
        'name = "Day"\nhashtags = ["#day"]\nstart = 2015-06-25\nend = "2015-06-26T00:00Z"'
    )
    campaign = read_campaign_file(folder, tz_default="Asia/Kolkata")
    assert (campaign.time_zone, campaign.hashtags) == ("Asia/Kolkata", ("day",))
    assert campaign.start == datetime(2015, 6, 24, 18, 30, tzinfo=UTC)


def test_the_folders_of_all_campaigns_are_found(folder: Path) -> None:
    (folder.parent / "notes").mkdir()
    assert campaign_folders(folder.parent.parent) == [folder]


# A post


def test_each_language_of_a_file_becomes_a_post(folder: Path) -> None:
    plan = read(folder, welcome=WELCOME)
    swahili, english = plan.posts
    assert not plan.problems
    assert (english.id, english.message, english.language, english.ready) == ("welcome.en", "welcome", "en", True)
    assert english.due_at == datetime(2015, 6, 25, 7, tzinfo=UTC)
    assert swahili.due_at == datetime(2015, 6, 25, 5, tzinfo=UTC)
    assert (swahili.due_local, swahili.time_zone) == ("2015-06-25T08:00", "Africa/Dar_es_Salaam")
    assert english.accounts == ("org-x", "org-bluesky", "org-mastodon")
    assert swahili.accounts == ("org-bluesky", "org-mastodon")
    assert english.not_after == timedelta(hours=2)
    assert english.link == "https://www.iied.org/asm"
    assert english.parts_for("bluesky")[1].startswith("Start with the human story")
    assert english.parts_for("bluesky")[0].count("\n") == 1
    assert english.parts_for("x")[0].endswith("We answer all day.")
    assert len(english.parts_for("x")) == 1
    assert [media.alt for media in (*english.media, *swahili.media)] == [
        "Two drillers in helmets work by lamplight.",
        "Wachimbaji wawili.",
    ]
    assert (english.media[0].mime, english.media[0].width, english.media[0].height) == ("image/jpeg", 40, 30)
    assert (english.file, english.line, english.lines[""]) == ("welcome.md", 13, (13, 16))


def test_values_stay_as_typed(folder: Path) -> None:
    post = read(folder, a=post_with("## no\nGod dag #shareASM", lang="[no]", labels="[12:30, yes, 1e3, null]")).posts[0]
    assert (post.id, post.language, post.labels) == ("short.no", "no", ("12:30", "yes", "1e3", "null"))


def test_a_file_may_come_from_windows(folder: Path) -> None:
    (folder / "a.md").write_bytes(b"\xef\xbb\xbf" + SHORT.replace("\n", "\r\n").encode())
    plan = read(folder)
    assert plan.posts[0].parts == {"": ("#shareASM begins.",)}


def test_a_text_is_kept_as_typed_in_composed_form(folder: Path) -> None:
    text = "#shareASM  *two*  spaces, mineri\u0301a\n\n  # no heading"
    post = read(folder, a=post_with(text)).posts[0]
    assert post.parts[""] == ("#shareASM  *two*  spaces, minería\n\n  # no heading",)


def test_comments_are_dropped_with_the_lines_they_fill(folder: Path) -> None:
    text = "One <!-- two --> three\n<!-- a\n\n## en\n---\nb -->\nfour<!-- five -->\n\nsix"
    assert read(folder, a=post_with(text)).posts[0].parts[""] == ("One  three\nfour\n\nsix",)


def test_everything_has_a_default(folder: Path) -> None:
    toml = 'name = "Day"\nhashtags = ["day"]\nstart = 2015-06-25\nend = 2015-06-26\nnot_after = "5m"'
    (folder / "campaign.toml").write_text(toml)
    post = read(folder, a=SHORT).posts[0]
    assert post.accounts == tuple(ACCOUNTS)
    assert (post.time_zone, post.not_after, post.if_late) == ("UTC", timedelta(minutes=5), "ask")


def test_a_draft_is_not_ready(folder: Path) -> None:
    assert [post.ready for post in read(folder, a=post_with(status="draft"), b=post_with(id="two")).posts] == [
        False,
        True,
    ]


def test_a_readme_is_no_post(folder: Path) -> None:
    assert read(folder, README="# How we plan", a=SHORT).problems == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Hello", "a.md:1: A post begins with its front matter."),
        ("---\nid: a\n", "a.md:1: The front matter has no end."),
        ("---\n- a\n---\n", "a.md:2: The front matter is no list of `key: value`."),
        ("---\nid: a\nlang: [en\n---\n", "a.md:3: This is not YAML: expected"),
        ("---\nid: a\nid: b\n---\n", "a.md:3: “id” stands here twice."),
        ("---\nid: &a x\nlang: *a\n---\n", "a.md:2: Anchors and aliases"),
        ("---\nid: a\nlang: !!python/object:os.system en\n---\n", "a.md:3: Tags (!) are not read."),
        ("---\nid: a\nlang: [[[[[[[[en]]]]]]]]\n---\n", "a.md:3: This is nested too deeply."),
        ("---\nid: a\n---\n", "lang is missing."),
        (post_with(id=""), "id is missing."),
        (post_with(id="Big Day"), "a.md:2: “Big Day” is no id."),
        (post_with(id="a" * 61), "is no id."),
        (post_with(lang="english"), "a.md:4: “english” is no language."),
        (post_with(lang="[en, EN]"), "A language stands here twice."),
        (post_with(status="approved"), "a.md:5: status “approved” is not known. Approval is never in a file."),
        (post_with(status="redy"), "Did you mean “ready”?"),
        (post_with(publish_at=""), "publish_at is missing for en."),
        (post_with(publish_at="25/06/2015"), "a.md:3: “25/06/2015” is not a time."),
        (post_with(publish_at="2015-03-29T01:30"), "a.md:3: 01:30 on 29 March 2015 does not exist in Europe/London"),
        (post_with(publish_at="2015-10-25T01:30"), "comes twice in Europe/London"),
        (post_with(tz="Africa/Nairob"), "a.md:6: “Africa/Nairob” is not a time zone. Did you mean “Africa/Nairobi”?"),
        (post_with(not_after="soon"), "a.md:6: “soon” is not a length of time."),
        (post_with(not_after="2015-06-25T08:00"), "is not after publish_at."),
        (post_with(link="javascript:alert(1)"), "is no web address."),
        (post_with(link="http://["), "is no web address."),
        (post_with(media="geita.jpg"), "a.md:6: media must be a list."),
        (post_with(media="[geita.jpg]"), "A picture has a file and an alt text."),
        (post_with(media='[{file: geita-drillers.jpg, alt: a, focus: "2,0"}]'), "focus “2,0” is no place."),
        (post_with(accounts="[]"), "accounts must be a text or a list of texts."),
        (post_with(labels="{a: b}"), "labels must be a text or a list of texts."),
        (post_with(""), "a.md:4: There is no text for en."),
        (post_with("One\n---\n---\nTwo"), "Here a text is empty."),
        (post_with("## en\n## en / x\nOne"), "Here a text is empty."),
        (post_with("One\n## ens\nTwo"), "a.md:8: “## ens” names no language of this post. It has ## en."),
        (post_with("One\n## Our programme\nTwo"), "names no language of this post."),
        (post_with("## en\nOne\n## en\nTwo"), "a.md:9: “## en” stands here twice."),
        (post_with("One\n## sw\nTwo", lang="[en, sw]"), "a.md:7: This text has no language."),
        (post_with("One <!-- two"), "a.md:7: This comment has no end."),
        (post_with("One\x00"), "a.md:7: Here is a control character, U+0000."),
    ],
)
def test_a_mistake_costs_its_file_and_is_told_with_its_line(folder: Path, text: str, message: str) -> None:
    plan = read(folder, a=text, good=post_with(id="good"))
    assert [post.id for post in plan.posts] == ["good.en"]
    assert [problem.level for problem in plan.problems] == ["error"]
    assert message in told(plan)[0]
    assert told(plan)[0].startswith("a.md:")
    assert plan.unreadable == ("a.md",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (post_with(publsh_at="x"), "a.md:6: “publsh_at” is not known. Did you mean “publish_at”?"),
        (post_with(accounts="[org-x, org-blusky]"), "a.md:6: There is no account “org-blusky” in desk.toml."),
        (post_with(accounts="{en: org-x, swa: org-x}"), "“swa” is no language of this post."),
        (post_with(media="[{file: geita-drillers.jpg}]"), "a.md:6: geita-drillers.jpg has no alt text for en."),
        (post_with(media="[{file: geita-drillers.jpg, alt: {sw: a}}]"), "“sw” is no language of this post."),
        (post_with(media="[{file: geta.jpg, alt: a}]"), "a.md:6: media/geta.jpg is not there."),
        (post_with(media="[{file: media/a.jpg, alt: a}]"), "Write the name without “media/”."),
        (post_with(media="[{file: geita-drillers.jpg, alt: a, size: 3}]"), "“size” is not known."),
        (post_with(reply_to="welcom"), "a.md:6: reply_to “welcom” is no post. Did you mean “welcome”?"),
        (post_with(reply_to="short"), "reply_to “short” does not go out before this post."),
    ],
)
def test_a_post_with_a_problem_is_kept_but_not_ready(folder: Path, text: str, message: str) -> None:
    plan = read(folder, a=text, welcome=WELCOME)
    post = next(post for post in plan.posts if post.file == "a.md")
    assert not post.ready
    assert any(message in line for line in told(plan))
    assert any(message in str(problem) for problem in plan.of_posts[post.id])
    assert [one.ready for one in plan.posts if one.file == "welcome.md"] == [True, True]
    assert plan.unreadable == ()


def test_a_misspelt_key_is_named_beside_what_it_should_have_been(folder: Path) -> None:
    assert told(read(folder, a=post_with(id="", idd="short"))) == [
        "a.md:5: “idd” is not known. Did you mean “id”?",
        "a.md:1: id is missing. Add it to the front matter.",
    ]


def test_a_missing_picture_holds_every_language_that_shows_it(folder: Path) -> None:
    (folder / "media" / "geita-drillers.jpg").unlink()
    plan = read(folder, welcome=WELCOME)
    assert [post.ready for post in plan.posts] == [False, False]
    assert len(plan.problems) == 1


def test_one_language_with_a_mistake_leaves_the_others(folder: Path) -> None:
    plan = read(folder, welcome=WELCOME.replace("sw: Africa/Dar_es_Salaam", "sw: Africa/Dar"))
    assert [(post.id, post.ready) for post in plan.posts] == [("welcome.en", True)]
    assert plan.unreadable == ("welcome.md",)


def test_one_id_in_two_files_is_an_error_in_both(folder: Path) -> None:
    plan = read(folder, a=SHORT, b=SHORT, c=post_with(id="third"))
    assert [post.id for post in plan.posts] == ["third.en"]
    assert told(plan) == [
        "a.md:2: The id “short” stands in a.md and in b.md. Give one of them another id.",
        "b.md:2: The id “short” stands in a.md and in b.md. Give one of them another id.",
    ]
    assert plan.unreadable == ("a.md", "b.md")


def test_an_answer_names_the_post_in_its_own_language(folder: Path) -> None:
    plan = read(folder, welcome=WELCOME, a=post_with(reply_to="welcome"), b=post_with(id="two", reply_to="welcome.sw"))
    assert [post.reply_to for post in plan.posts[2:]] == ["welcome.en", "welcome.sw"]


def test_accounts_that_only_the_campaign_names_are_one_problem(folder: Path) -> None:
    (folder / "campaign.toml").write_text(CAMPAIGN_TOML.replace('"org-x"', '"org-y"'))
    plan = read(folder, a=SHORT, b=post_with(id="two"))
    assert told(plan) == ["campaign.toml: There is no account “org-y” in desk.toml. Did you mean “org-x”?"]
    assert not any(post.ready for post in plan.posts)


def campaign() -> Campaign:
    return Campaign("c", "C", ("c",), EVE, EVE + timedelta(days=2), "Europe/London")


def no_picture(file: str) -> Picture:
    raise PlanError(f"media/{file} is not there.")


yaml_like = st.text(alphabet="ab:-[]{}'\"#&*!|>%@`,?\n \t~.0\\é\x85")


@unhurried
@given(
    st.one_of(
        st.binary(max_size=300),
        st.builds(lambda a, b: f"---\n{a}\n---\n{b}".encode(), yaml_like, st.text()),
        st.builds(
            lambda keys, body: ("---\n" + "".join(f"{k}: {v}\n" for k, v in keys.items()) + "---\n" + body).encode(),
            st.dictionaries(
                st.sampled_from(["id", "publish_at", "tz", "lang", "accounts", "status", "media", "link"]), yaml_like
            ),
            st.text(alphabet="#en /x<!->\n abc"),
        ),
    )
)
def test_no_bytes_are_more_than_a_problem_with_its_line(content: bytes) -> None:
    begun = time.process_time()
    found = read_post_file(content, "a.md", campaign(), accounts=("org-x",), find=no_picture)
    assert found.posts or found.problems
    assert all(problem.where.rpartition(":")[2].isdigit() for problem in found.problems)
    assert time.process_time() - begun < 1


@pytest.mark.parametrize(
    "content",
    [
        b"---\n" + b"[" * 200_000 + b"\n---\n",
        b"---\na: " + b"{a: " * 5_000 + b"\n---\n",
        b"---\n" + b"".join(b"a%d: b\n" % n for n in range(3_000)) + b"---\n",
        b"---\na: &a [x, x]\n" + b"".join(b"b%d: &b%d [*a, *a]\n" % (n, n) for n in range(20)) + b"---\n",
        b"---\nid: a\nlang: en\n---\n" + b"<!-- -->" * 30_000,
        b"---\nid: a\nlang: en\n---\n" + b"---\n" * 60_000,
        b"---\n? " * 10_000 + b"\n---\n",
    ],
)
def test_no_trick_takes_long(content: bytes) -> None:
    begun = time.process_time()
    assert read_post_file(content, "a.md", campaign(), accounts=(), find=no_picture).problems
    assert time.process_time() - begun < 1


def test_a_huge_file_is_refused_unread(folder: Path) -> None:
    (folder / "a.md").write_text(SHORT + "x" * 300_000)
    assert told(read(folder)) == ["a.md: a.md has more than 262,144 bytes. Make it smaller."]


# Pictures


@pytest.mark.parametrize(
    "file", ["../campaign.toml", "a/../../campaign.toml", "/etc/passwd", "", ".", "..", "a//b", "a\\b", "a\0b"]
)
def test_a_name_never_leads_out_of_media(folder: Path, file: str) -> None:
    with pytest.raises(PlanError, match="leads out of"):
        read_media(folder, file)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda media: (media / "a.jpg").symlink_to("/etc/passwd"), "is a link"),
        (lambda media: (media / "a.jpg").symlink_to("geita-drillers.jpg"), "is a link"),
        (lambda media: (media / "a.jpg").hardlink_to(media / "geita-drillers.jpg"), "is a link"),
        (lambda media: os.mkfifo(media / "a.jpg"), "is not a file"),
        (lambda media: (media / "a.jpg").mkdir(), "is not a file"),
        (lambda media: None, "is not there"),
        (lambda media: (media / "a.jpg").write_bytes(b"\0" * 20_000_001), "more than 20,000,000 bytes"),
    ],
    ids=["far symlink", "near symlink", "hard link", "pipe", "folder", "nothing", "too big"],
)
def test_only_a_plain_file_in_media_is_read(folder: Path, make: Callable[[Path], object], words: str) -> None:
    make(folder / "media")
    with pytest.raises(PlanError, match=words):
        read_media(folder, "a.jpg")


def test_a_folder_that_is_a_link_is_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.jpg").write_bytes(picture())
    (folder / "media" / "sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PlanError):
        read_media(folder, "sub/a.jpg")


def test_a_picture_in_a_folder_of_media_is_read(folder: Path) -> None:
    (folder / "media" / "sub").mkdir()
    (folder / "media" / "sub" / "a.jpg").write_bytes(picture())
    assert read_media(folder, "sub/a.jpg") == picture()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_a_picture_is_told_by_its_content(kind: str) -> None:
    found = read_picture(picture(kind))
    assert (found.mime, found.width, found.height, found.tells_place) == (f"image/{kind.lower()}", 40, 30, False)


def test_a_picture_that_tells_where_it_was_taken_is_a_warning(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x8825] = {1: "S", 2: (2.0, 52.0, 0.0)}
    buffer = BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "JPEG", exif=exif)
    (folder / "media" / "a.jpg").write_bytes(buffer.getvalue())
    plan = read(folder, a=post_with(media="[{file: a.jpg, alt: a}]"))
    assert told(plan) == ["a.md:6: media/a.jpg tells where it was taken (GPS). Save it without."]
    assert plan.posts[0].ready


def png_of(width: int, height: int) -> bytes:
    """A small PNG that claims any size, as a bomb does."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"GIF89a", b"<svg/>", picture()[:200], picture("PNG")[:50], picture("TIFF"), picture("BMP")),
        *(png_of(7_000, 7_000), png_of(10_000, 10_000), png_of(30_000, 30_000), png_of(100, 100)),
    ],
)
def test_what_is_no_picture_or_a_bomb_is_refused(content: bytes) -> None:
    with pytest.raises(PlanError):
        read_picture(content)


@unhurried
@given(st.binary(max_size=80), st.sampled_from(["JPEG", "PNG", "WEBP", "GIF"]), st.integers(8, 600))
def test_no_broken_picture_is_more_than_a_problem(noise: bytes, kind: str, place: int) -> None:
    whole = picture(kind)
    try:
        read_picture(whole[:place] + noise + whole[place + len(noise) :])
    except PlanError as error:
        assert error.what_to_do


def test_a_picture_changed_after_it_was_read_is_noticed(folder: Path) -> None:
    post = read(folder, welcome=WELCOME).posts[0]
    assert list(changed_media(folder, post)) == []
    (folder / "media" / "geita-drillers.jpg").write_bytes(picture(size=(41, 30)))
    assert [why for _, why in changed_media(folder, post)] == ["geita-drillers.jpg was changed."]
    (folder / "media" / "geita-drillers.jpg").unlink()
    assert [why for _, why in changed_media(folder, post)] == ["media/geita-drillers.jpg is not there."]


# The check


def test_a_good_day_has_no_problem(folder: Path) -> None:
    plan = check(folder, welcome=WELCOME, short=SHORT)
    assert told(plan) == []
    assert all(post.ready for post in plan.posts)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (post_with("#shareASM " + "x" * 281), "a.md:7: 291 of 280 for X. Shorten it or add `## en / x`."),
        (post_with("#shareASM\n---\n\n" + "x" * 281), "a.md:10: 281 of 280 for X. Shorten it or add `## en / x`."),
        (post_with("#shareASM\n## en / x\n#shareASM " + "x" * 290), "a.md:9: 300 of 280 for X. Shorten it."),
        (
            post_with("#shareASM " + "x" * 260, link="https://www.iied.org/asm"),
            "a.md:8: 294 of 280 for X. Shorten it or add `## en / x`.",
        ),
        (post_with("#shareASM " + "👩‍👩‍👧" * 200, accounts="org-bluesky"), "a.md:8: 3,610 of 3,000 bytes for Bluesky."),
        (post_with("#shareASM " + "x" * 485, accounts="org-mastodon", warning="injury"), "501 of 500 for Mastodon."),
        (
            post_with("## en / x\n#shareASM"),
            "There is no text for Bluesky. Write it under `## en` or `## en / bluesky`.",
        ),
        (
            post_with("#shareASM\n## en / blusky\n#shareASM"),
            "a.md:9: There is no network “blusky”. Did you mean “bluesky”?",
        ),
        (post_with(media="[{file: big.png, alt: a}]"), "a.md:6: big.png: "),
        (post_with(media=f"[{{file: geita-drillers.jpg, alt: {'a' * 1_001}}}]"), "is too long: 1,001 of 1,000 for X."),
        (
            post_with(media="[" + "{file: geita-drillers.jpg, alt: a}, " * 5 + "]"),
            "5 pictures are too many: X takes 4.",
        ),
    ],
)
def test_what_a_network_would_refuse_is_an_error(folder: Path, text: str, message: str) -> None:
    (folder / "media" / "big.png").write_bytes(picture("PNG") + b"\0" * 2_000)
    plan = check(folder, a=text)
    assert any(message in line for line in told(plan)), told(plan)
    assert not plan.posts[0].ready


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (post_with("No hashtag"), "a.md:7: #shareASM is not in the text for X."),
        (post_with("#shareASM ends.Next"), "a.md:7: X makes a link of “ends.Next”, which counts 23."),
        (
            post_with("#shareASM\n## en / x\n#shareASM", accounts="org-bluesky"),
            "a.md:10: No account of this post is on X.",
        ),
        (
            post_with(publish_at="2015-06-26T00:00"),
            "a.md:3: 2015-06-26T00:00 (Europe/London) lies outside the campaign.",
        ),
        (post_with(publish_at="2015-06-24T12:00"), "a.md:3: 2015-06-24T12:00 (Europe/London) has passed."),
    ],
)
def test_what_deserves_a_second_look_is_a_warning(folder: Path, text: str, message: str) -> None:
    plan = check(folder, a=text)
    assert any(message in line for line in told(plan)), told(plan)
    assert {problem.level for problem in plan.problems} == {"warning"}
    assert plan.posts[0].ready


def test_a_content_warning_that_a_network_cannot_show_is_a_warning(folder: Path) -> None:
    plan = read(folder, a=post_with(warning="Mercury", accounts="org-bluesky"))
    limits = {**LIMITS, "bluesky": replace(LIMITS["bluesky"], warnings=False)}
    (found,) = check_post(plan.posts[0], plan.campaign, limits=limits, accounts=ACCOUNTS, now=EVE)
    assert (found.level, found.why) == ("warning", "Bluesky shows no content warning.")


def test_the_same_text_within_the_hour_is_a_warning(folder: Path) -> None:
    twin = post_with("#shareASM  BEGINS.", id="twin", publish_at="2015-06-25T09:59", accounts="org-x")
    later = post_with(id="later", publish_at="2015-06-25T11:00")
    plan = check(folder, a=SHORT, b=twin, c=later)
    assert told(plan) == ["b.md:8: org-x says the same in short.en within the hour. X refuses the second one."]
    assert [problem.level for problem in plan.of_posts["twin.en"]] == ["warning"]


def test_a_post_without_a_file_is_named_by_its_id(folder: Path) -> None:
    plan = read(folder, a=SHORT)
    post = replace(plan.posts[0], file="", lines={}, accounts=("org-z",))
    found = check_post(post, plan.campaign, limits=LIMITS, accounts=ACCOUNTS, now=EVE)
    assert found == [Problem("short.en", "There is no account “org-z” in desk.toml.", "Did you mean “org-x”?")]


# The approval


def frozen_of(folder: Path, text: str = WELCOME) -> tuple[CampaignPlan, Post]:
    plan = read(folder, a=text)
    return plan, plan.posts[-1]


def test_an_approval_fixes_one_record_per_account_and_part(folder: Path) -> None:
    plan, post = frozen_of(folder)
    records = dict(freeze(post, plan.campaign, ACCOUNTS, LIMITS))
    assert list(records) == [
        f"2015-06-25-shareasm/welcome.en/{account}/{part}"
        for account, part in [
            ("org-x", 1),
            ("org-bluesky", 1),
            ("org-bluesky", 2),
            ("org-mastodon", 1),
            ("org-mastodon", 2),
        ]
    ]
    x, blue_1, blue_2, toot_1, _ = records.values()
    assert x.text.endswith("We answer all day.\nhttps://www.iied.org/asm")
    assert (x.link, blue_1.link, blue_2.link) == ("", "", "")  # beside a picture there is no room for a card
    assert blue_1.text == f"{post.parts[''][0]}\nhttps://www.iied.org/asm"
    assert toot_1.text == f"{post.parts[''][0]}\nhttps://www.iied.org/asm"
    assert (blue_1.media, blue_2.media) == (post.media, ())
    assert (blue_2.part, blue_2.of_parts, blue_2.language, blue_2.visibility) == (2, 2, "en", "public")
    assert freeze(post, plan.campaign, ACCOUNTS, LIMITS) == list(records.items())


def test_a_link_without_a_picture_becomes_a_card_where_the_network_has_cards(folder: Path) -> None:
    plan, post = frozen_of(folder, post_with("#shareASM begins.", link="https://a.org/x", accounts="org-bluesky"))
    ((_, record),) = freeze(post, plan.campaign, ACCOUNTS, LIMITS)
    assert (record.text, record.link) == ("#shareASM begins.", "https://a.org/x")


def test_a_link_that_the_text_already_has_is_not_added(folder: Path) -> None:
    _, post = frozen_of(folder, post_with("#shareASM https://a.org/x", link="https://a.org/x"))
    assert texts_for(post, "x", LIMITS["x"]) == ("#shareASM https://a.org/x",)


def test_no_two_records_of_an_account_share_a_millisecond(folder: Path) -> None:
    plan, post = frozen_of(folder, post_with("#shareASM\n---\nTwo\n---\nThree"))
    taken: set[tuple[str, datetime]] = set()
    for number in range(400):
        for _, record in freeze(replace(post, id=f"p{number}.en"), plan.campaign, ACCOUNTS, LIMITS, taken=taken):
            assert (record.account, record.created_at) not in taken
            assert record.created_at.microsecond % 1_000 == 0
            assert record.created_at >= post.due_at
            taken.add((record.account, record.created_at))


def test_the_parts_of_a_thread_are_made_in_order(folder: Path) -> None:
    plan, post = frozen_of(folder)
    made = [
        record.created_at for _, record in freeze(post, plan.campaign, ACCOUNTS, LIMITS) if record.network == "bluesky"
    ]
    assert made == sorted(set(made))
    assert made[-1] - post.due_at < timedelta(seconds=1)


def test_a_key_depends_on_due_time_and_delivery_alone(folder: Path) -> None:
    plan, post = frozen_of(folder)
    keys = {delivery: record.key for delivery, record in freeze(post, plan.campaign, ACCOUNTS, LIMITS)}
    again = freeze(replace(post, parts={"": ("other", "words")}), plan.campaign, ACCOUNTS, LIMITS)
    assert {delivery: record.key for delivery, record in again if delivery in keys}.items() <= keys.items()
    assert len(set(keys.values())) == len(keys)
    assert record_key(post.due_at, delivery_id(plan.campaign, post, "org-x", 1)) in keys.values()


@unhurried
@given(st.datetimes(datetime(2015, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC)), st.text())  # noqa: DTZ001
def test_a_key_is_one_that_bluesky_takes_and_tells_its_second(due: datetime, delivery: str) -> None:
    key = record_key(due, delivery)
    letters = "234567abcdefghijklmnopqrstuvwxyz"
    assert len(key) == 13
    assert key[0] in letters[:16]
    value = sum(letters.index(letter) << shift for letter, shift in zip(key, range(60, -1, -5), strict=True))
    moment = datetime.fromtimestamp((value >> 10) / 1_000_000, UTC)
    assert abs(moment - due) < timedelta(seconds=1.1)


def test_what_nobody_could_read_is_never_approved(folder: Path) -> None:
    plan, post = frozen_of(folder, post_with(media="[{file: gone.jpg, alt: a}]"))
    with pytest.raises(PlanError, match=r"media/gone\.jpg could not be read"):
        freeze(post, plan.campaign, ACCOUNTS, LIMITS)
    with pytest.raises(PlanError, match="nothing to say on org-z"):
        freeze(replace(post, media=(), accounts=("org-z",)), plan.campaign, ACCOUNTS, LIMITS)


# The example


def test_the_example_day_has_no_mistake() -> None:
    folder = Path(__file__).parent.parent / "scheduled_posts" / "asm-day-2015"
    plan = read_campaign(folder, desk_accounts=["rehearsal"], tz_default="UTC")
    assert [str(problem) for problem in plan.problems if problem.level == "error"] == []
    assert len(plan.posts) > 30
    assert {post.accounts for post in plan.posts} == {("rehearsal",)}
