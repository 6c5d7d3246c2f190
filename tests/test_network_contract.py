"""The contract that every network keeps: a post once, found again, seen by everybody, and gone when deleted.

To bring a new network under it, write one function here that returns a `Rig` and name it in `RIGS`; nothing else in
this file changes, and `test_every_network_is_held_to_the_contract` fails until it is done. A rig needs a real or strict
server on loopback (a fixture of conftest.py) and answers for it: how to log in, how somebody else posts there, and what
the server itself holds of ours (`truth`), read past the code under test. What a network cannot do the rig says, and the
test asks for what remains of the promise: to an account that keeps no key the same wire is sent only once.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from io import BytesIO
from itertools import count
from pathlib import Path

import httpx
import pytest
from mastodon_mock.testing.server import MockServer
from PIL import Image

from shareasm import networks
from shareasm.errors import ConfigError, LoginNeeded
from shareasm.model import (
    Absent,
    Found,
    Frozen,
    Media,
    NotApplied,
    Page,
    Query,
    Receipt,
    Removed,
    Seen,
    Sent,
    Thread,
    Wire,
    WorldClock,
    digest_of,
)
from shareasm.networks import Account, Setting, Source
from shareasm.networks.practice import FEED
from tests.servers.bluesky import Pds
from tests.servers.mastodon import TOKENS
from tests.servers.strict_mastodon import StrictMastodon
from tests.servers.strict_x import StrictX

HOUR = timedelta(hours=1)
TAG = "shareASM"
KEYS = count(time.time_ns() // 1000)


@dataclass(frozen=True)
class Record:
    """One post of ours as the server itself holds it. `alts` is None where the server does not tell them."""

    id: str
    text: str
    language: str
    parent: str = ""
    alts: tuple[str, ...] | None = ()


@dataclass
class Rig:
    """One network with a server, our account on it, and somebody else who posts there.

    `say(text)` posts as somebody else and returns the post's native id; `locked_out` is our account with a wrong key.
    """

    ours: Setting
    listening: Setting
    locked_out: Setting
    truth: Callable[[], Sequence[Record]]
    say: Callable[[str], str]
    asks_for_a_key: bool = True

    @cached_property
    def account(self) -> Account:
        """Our account, after the server has told who we are."""
        account = networks.network(self.ours.network).open_account(self.ours)
        account.identity()
        return account

    @cached_property
    def source(self) -> Source:
        """The place where we listen."""
        return networks.network(self.listening.network).open_source(self.listening)

    def frozen(
        self, text: str = f"A mine in Tanga #{TAG}", *, language: str = "sw", media: tuple[Media, ...] = ()
    ) -> Frozen:
        """A post as approval froze it, under a key that nobody used."""
        value = next(KEYS) << 10
        key = "".join("234567abcdefghijklmnopqrstuvwxyz"[(value >> shift) & 31] for shift in range(60, -1, -5))
        return Frozen(self.ours.network, self.ours.name, text, language, 1, 1, datetime.now(UTC), key, media=media)

    def post(self, text: str = f"A mine in Tanga #{TAG}", thread: Thread | None = None) -> Receipt:
        """Post, and return the receipt."""
        return sent(self.account, self.account.compose(self.frozen(text), thread, []))

    def pages(self, cursor: str | None = None) -> list[Page]:
        """Everything that the source shows after the cursor, up to now."""
        now = datetime.now(UTC)
        query = Query("day", (f"#{TAG}",), now - HOUR, now + HOUR)
        with closing(self.source.pages(query, cursor, live=False)) as pages:  # type: ignore[type-var]
            return list(pages)


def sent(account: Account, wire: Wire) -> Receipt:
    outcome = account.send(wire)
    assert isinstance(outcome, Sent), outcome
    return outcome.receipt


def seen_in(pages: Sequence[Page], *ids: str) -> list[Seen]:
    return [seen for page in pages for seen in page.seen if seen.native_id in ids]


def end_of(pages: Sequence[Page]) -> str | None:
    return next((page.cursor for page in reversed(pages) if page.cursor), None)


def setting(network: str, folder: Path, **changes: object) -> Setting:
    kept: dict[str, str] = {}
    plain = Setting(
        network=network,
        name="ours",
        server="",
        handle="",
        folder=folder,
        clock=WorldClock(),
        secret=lambda field: {}[field],
        save=kept.__setitem__,
        load=kept.get,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


# ── Rigs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def on_bluesky(request: pytest.FixtureRequest, folder: Path) -> Rig:
    """A real PDS; we listen to its firehose."""
    pds: Pds = request.getfixturevalue("pds")
    us, other = pds.create_account("us"), pds.create_account("other")

    def login(password: str) -> Setting:
        return setting("bluesky", folder, server=pds.url, handle=us.handle, secret=lambda _: password)

    def truth() -> list[Record]:
        return [
            Record(
                id=found["uri"],
                text=found["value"]["text"],
                language=found["value"]["langs"][0],
                parent=found["value"].get("reply", {}).get("parent", {}).get("uri", ""),
                alts=tuple(image["alt"] for image in found["value"].get("embed", {}).get("images", [])),
            )
            for found in pds.records(us.did)
        ]

    return Rig(
        ours=login(us.password),
        listening=setting("bluesky", folder, server=pds.ws_url, protocol="firehose"),
        locked_out=login("wrong"),
        truth=truth,
        say=lambda text: pds.create_record(other, text)["uri"],
    )


def on_practice(request: pytest.FixtureRequest, folder: Path) -> Rig:
    """The rehearsal network: a file, read here line by line. It asks for no key, so a fault plays the wrong one."""
    ours = setting("practice", folder, handle="desk")
    other = networks.network("practice").open_account(replace(ours, name="other", handle="other"))
    tell = Rig(ours, ours, ours, lambda: [], lambda _: "")

    def truth() -> list[Record]:
        events = [json.loads(line) for line in (folder / FEED).read_text().splitlines()]
        gone = {event["of"] for event in events if event["do"] == "gone"}
        posts = [e for e in events if e["do"] == "post" and e["by"] == "desk" and e["id"] not in gone]
        return [Record(e["id"], e["text"], e["lang"], e.get("of", ""), alts=None) for e in posts]

    return Rig(
        ours=ours,
        listening=setting("practice", folder, options={"audience": 10}),
        locked_out=replace(ours, options={"faults": ["login"]}),
        truth=truth,
        say=lambda text: sent(other, other.compose(tell.frozen(text), None, [])).remote_id,
        asks_for_a_key=False,
    )


def on_mastodon(request: pytest.FixtureRequest, folder: Path) -> Rig:
    """Our own strict server, which counts."""
    server = StrictMastodon().__enter__()
    request.addfinalizer(lambda: server.__exit__())

    def truth() -> list[Record]:
        uris = {post.id: post.uri for post in server.posts}
        return [
            Record(
                id=post.uri,
                text=post.text,
                language=post.language or "",
                parent=uris.get(post.parent or "", ""),
                alts=tuple(media["description"] for media in post.media),
            )
            for post in server.by("desk")
        ]

    return _mastodon(server.url, folder, truth, lambda text: server.say(text).uri)


def on_mastodon_mock(request: pytest.FixtureRequest, folder: Path) -> Rig:
    """The package mastodon-mock, another author's."""
    server: MockServer = request.getfixturevalue("mastodons")[0]
    client = httpx.Client(base_url=server.base_url, trust_env=False)
    request.addfinalizer(client.close)

    def ask(path: str, who: str = "desk", **form: str):
        told = {"Authorization": f"Bearer {TOKENS[who]}"}
        answer = client.post(path, data=form, headers=told) if form else client.get(path, headers=told)
        return answer.raise_for_status().json()

    def truth() -> list[Record]:
        me = ask("/api/v1/accounts/verify_credentials")["id"]
        posts = ask(f"/api/v1/accounts/{me}/statuses?limit=40")
        uris = {post["id"]: post["uri"] for post in posts}
        return [
            Record(
                id=post["uri"],
                text=ask(f"/api/v1/statuses/{post['id']}/source")["text"],
                language=post["language"],
                parent=uris.get(post["in_reply_to_id"], ""),
                alts=tuple(media["description"] for media in post["media_attachments"]),
            )
            for post in posts
        ]

    return _mastodon(server.base_url, folder, truth, lambda text: ask("/api/v1/statuses", "other", status=text)["uri"])


def _mastodon(url: str, folder: Path, truth: Callable[[], list[Record]], say: Callable[[str], str]) -> Rig:
    def login(token: str) -> Setting:
        return setting("mastodon", folder, server=url, handle="desk", secret=lambda _: token)

    def nothing(_field: str) -> str:
        raise ConfigError("There is no token.")

    listening = setting("mastodon", folder, server=url, secret=nothing, options={"poll_seconds": 0.5})
    return Rig(login(TOKENS["desk"]), listening, login("wrong"), truth, say)


def on_x(request: pytest.FixtureRequest, folder: Path) -> Rig:
    """The strict X of ours; we read its recent search. X guesses a language itself: here it guesses Swahili."""
    x = StrictX("us", "other")
    request.addfinalizer(x.close)
    x.detect = lambda _: "sw"
    secrets = {**x.user_secrets("us"), "BEARER_TOKEN": x.bearer_token}

    def login(**wrong: str) -> Setting:
        return setting("x", folder, server=x.url, handle="us", secret=(secrets | wrong).__getitem__)

    def truth() -> list[Record]:
        alts = {upload.key: upload.alt for upload in x.uploads.values()}
        return [
            Record(post.id, post.typed, post.lang, post.id_of("replied_to"), tuple(alts[key] for key in post.media))
            for post in x.standing("us")
        ]

    return Rig(
        ours=login(),
        listening=replace(login(), options={"poll_seconds": 1}),
        locked_out=login(ACCESS_SECRET="wrong"),  # noqa: S106 - it is wrong
        truth=truth,
        say=lambda text: x.say("other", text).id,
    )


RIGS: Mapping[str, Callable[[pytest.FixtureRequest, Path], Rig]] = {
    "bluesky": on_bluesky,
    "mastodon": on_mastodon,
    "mastodon, another author's server": on_mastodon_mock,
    "practice": on_practice,
    "x": on_x,
}
"""By network; a second server of the same network is named behind a comma."""


@pytest.fixture(params=sorted(RIGS))
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    return RIGS[request.param](request, tmp_path)


def test_every_network_is_held_to_the_contract() -> None:
    assert {name.partition(",")[0] for name in RIGS} == set(networks.names())


# ── Posting ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_post_is_there_once_with_its_words_and_its_language(rig: Rig) -> None:
    receipt = rig.post(f"Habari ☕ 日本 #{TAG}")
    assert [(one.id, one.text, one.language) for one in rig.truth()] == [
        (receipt.remote_id, f"Habari ☕ 日本 #{TAG}", "sw")
    ]


def test_the_same_wire_again_is_still_one_post(rig: Rig) -> None:
    wire = rig.account.compose(rig.frozen(), None, [])
    tries = 1 if rig.account.keeps_key is None else 3
    assert len({sent(rig.account, wire).remote_id for _ in range(tries)}) == 1
    assert len(rig.truth()) == 1


def test_composing_is_pure_and_its_wire_is_plain_json(rig: Rig) -> None:
    frozen = rig.frozen()
    first, second = (rig.account.compose(frozen, None, []) for _ in range(2))
    assert first == second == json.loads(json.dumps(first))
    assert rig.account.look_up(first) == Absent()


def test_a_look_up_tells_absent_before_and_the_same_after(rig: Rig) -> None:
    wire = rig.account.compose(rig.frozen(), None, [])
    assert rig.account.look_up(wire) == Absent()
    receipt = sent(rig.account, wire)
    found = rig.account.look_up(wire)
    assert isinstance(found, Found)
    assert found.same
    assert found.receipt.remote_id == receipt.remote_id


def test_a_look_up_after_a_restart_needs_the_stored_wire_alone(rig: Rig) -> None:
    wire = rig.account.compose(rig.frozen(), None, [])
    sent(rig.account, wire)
    again = networks.network(rig.ours.network).open_account(rig.ours)
    found = again.look_up(json.loads(json.dumps(wire)))
    assert isinstance(found, Found)
    assert found.same


def test_the_parts_of_a_thread_answer_each_other(rig: Rig) -> None:
    first = rig.post(f"1 #{TAG}")
    second = rig.post("2", Thread(parent=first, root=first))
    third = rig.post("3", Thread(parent=second, root=first))
    parents = {one.id: one.parent for one in rig.truth()}
    assert parents == {first.remote_id: "", second.remote_id: first.remote_id, third.remote_id: second.remote_id}


def test_a_picture_arrives_with_its_alt_text(rig: Rig) -> None:
    out = BytesIO()
    Image.new("RGB", (40, 30), "red").save(out, "PNG")
    media = Media("ore.png", "A woman sorting ore", digest_of("ore"), "image/png", out.tell(), 40, 30)
    ready = rig.account.prepare(media, out.getvalue())
    json.dumps(ready)
    sent(rig.account, rig.account.compose(rig.frozen(media=(media,)), None, [ready]))
    (record,) = rig.truth()
    assert record.alts in (None, ("A woman sorting ore",))


def test_a_wrong_key_makes_nothing_and_is_said(rig: Rig) -> None:
    wire = rig.account.compose(rig.frozen(), None, [])
    locked_out = networks.network(rig.ours.network).open_account(rig.locked_out)
    outcome = locked_out.send(wire)
    assert isinstance(outcome, NotApplied)
    assert outcome.kind == "account"
    assert outcome.words
    assert rig.account.look_up(wire) == Absent()
    if rig.asks_for_a_key:
        with pytest.raises((LoginNeeded, ConfigError), match=rig.ours.name):
            locked_out.identity()


def test_a_deleted_post_is_gone_and_deleting_it_again_is_no_error(rig: Rig) -> None:
    receipt = rig.post()
    rig.account.delete(receipt)
    rig.account.delete(receipt)
    assert rig.truth() == []


def test_limits_are_those_of_the_network_or_narrower(rig: Rig) -> None:
    known = networks.network(rig.ours.network).LIMITS
    limits = rig.account.limits()
    assert limits.count == known.count
    assert limits.text > 0


# ── Listening ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_we_post_is_seen_once_as_ours(rig: Rig) -> None:
    receipt = rig.post(f"Habari #{TAG}")
    (seen,) = seen_in(rig.pages(), receipt.remote_id)
    assert seen.network == rig.ours.network
    assert seen.author.native_id == rig.account.identity().native_id
    assert (seen.text, seen.language, seen.kind, seen.public) == (f"Habari #{TAG}", "sw", "original", True)
    assert [tag.casefold().lstrip("#") for tag in seen.tags] == [TAG.casefold()]
    assert abs(seen.posted_at - datetime.now(UTC)) < HOUR


def test_what_others_post_is_seen_and_what_has_no_hashtag_is_no_mention(rig: Rig) -> None:
    rig.pages()
    theirs = rig.say(f"Hello #{TAG}")
    other = rig.say("Hello #somethingelse")
    pages = rig.pages()
    (seen,) = seen_in(pages, theirs)
    assert seen.author.native_id != rig.account.identity().native_id
    assert not [one for one in seen_in(pages, other) if one.tags and TAG in one.tags]


def test_an_answer_is_a_reply_to_the_post_that_it_answers(rig: Rig) -> None:
    first = rig.post(f"1 #{TAG}")
    second = rig.post(f"2 #{TAG}", Thread(parent=first, root=first))
    (seen,) = seen_in(rig.pages(), second.remote_id)
    assert (seen.kind, seen.of_id, seen.reply_to_id) == ("reply", first.remote_id, first.remote_id)
    assert seen.root_id == first.remote_id


def test_reading_on_from_the_cursor_gives_the_rest_and_nothing_twice(rig: Rig) -> None:
    first = rig.post(f"1 #{TAG}")
    before = rig.pages()
    assert seen_in(before, first.remote_id)
    second = rig.post(f"2 #{TAG}")
    after = rig.pages(end_of(before))
    assert seen_in(after, first.remote_id) == []
    assert len(seen_in(after, second.remote_id)) == 1
    assert seen_in(rig.pages(end_of([*before, *after])), first.remote_id, second.remote_id) == []


def test_a_source_that_read_all_says_until_when_and_has_no_hole(rig: Rig) -> None:
    rig.post()
    pages = rig.pages()
    until = pages[-1].complete_until
    assert until is not None
    assert until <= datetime.now(UTC)
    assert [hole for page in pages for hole in page.holes] == []


def test_a_deletion_is_told_by_the_posts_id(rig: Rig) -> None:
    receipt = rig.post()
    before = rig.pages()
    rig.account.delete(receipt)
    removed = [one for page in rig.pages(end_of(before)) for one in page.removed]
    assert Removed(rig.ours.network, receipt.remote_id) in removed


def test_live_there_is_a_page_although_all_is_quiet(rig: Rig) -> None:
    now = datetime.now(UTC)
    query = Query("day", (f"#{TAG}",), now - HOUR, now + HOUR)
    with closing(rig.source.pages(query, end_of(rig.pages()), live=True)) as pages:  # type: ignore[type-var]
        assert isinstance(next(pages), Page)
        assert isinstance(next(pages), Page)
        receipt = rig.post()
        assert any(seen_in([page], receipt.remote_id) for page, _ in zip(pages, range(60), strict=False))
