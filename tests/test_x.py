"""X: a post once whatever becomes of the answer, and its search without a silent gap. Against the strict X."""

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from shareasm import networks
from shareasm.archives import twarc2
from shareasm.errors import ConfigError, LoginNeeded, NetworkError, NoCredits, RateLimited, Refused, Unreachable
from shareasm.model import (
    Absent,
    AccountChanged,
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
    Unclear,
    Unknown,
    Wire,
)
from shareasm.networks import Setting
from shareasm.networks.x import LIMITS
from shareasm.networks.x.account import XAccount
from shareasm.networks.x.seen import read_page
from shareasm.networks.x.source import XSource, search_queries
from tests.servers.strict_x import DUPLICATE, REPLY_GATE, StrictX

TAG = "#shareASM"
POST = "POST /2/tweets"
TOKEN = "POST /2/oauth2/token"  # noqa: S105 - an address
SEARCH = "GET /2/tweets/search/recent"


@dataclass
class Desk:
    """A desk beside a strict X: its secrets, what it keeps, how long it waited, and how wrong its clock is."""

    x: StrictX = field(repr=False)
    folder: Path
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    kept: dict[str, str] = field(default_factory=dict, repr=False)
    waited: list[float] = field(default_factory=list)
    ahead: timedelta = timedelta(0)

    def now(self) -> datetime:
        return self.x.clock.now() + self.ahead

    def monotonic(self) -> float:
        return time.monotonic()

    def secret(self, name: str) -> str:
        if name not in self.secrets:
            raise ConfigError(f"ours has no {name}.", f"Set SHAREASM_OURS_{name}.")
        return self.secrets[name]

    def setting(self, **changes: Any) -> Setting:
        plain = Setting(
            network="x",
            name="ours",
            server=self.x.url,
            handle="desk",
            folder=self.folder,
            clock=self,
            secret=self.secret,
            save=self.kept.__setitem__,
            load=self.kept.get,
        )
        return replace(plain, **changes)

    def account(self, **options: Any) -> XAccount:
        return XAccount(self.setting(), wait=self.waited.append, **options)

    def source(self, **options: Any) -> XSource:
        return XSource(self.setting(options={"poll_seconds": 1, **options}), wait=self.pause)

    def pause(self, seconds: float) -> None:
        self.waited.append(seconds)
        time.sleep(min(seconds, 0.01))

    def frozen(self, text: str, **changes: Any) -> Frozen:
        return replace(Frozen("x", "ours", text, "sw", 1, 1, self.now(), "key"), **changes)

    def wire(self, text: str = f"Habari {TAG}", thread: Thread | None = None, media: Sequence[Any] = ()) -> Wire:
        return self.account().compose(self.frozen(text), thread, media)

    def query(self, *tags: str, since: timedelta = timedelta(hours=1)) -> Query:
        return Query("day", tags or (TAG,), self.now() - since, self.now() + timedelta(hours=1))


@pytest.fixture
def x() -> Iterator[StrictX]:
    with StrictX("desk", "other") as server:
        now = server.clock.now()
        server.clock.move((now.replace(hour=12) - now) % timedelta(days=1))  # bills are by the day: no midnight here
        yield server


@pytest.fixture
def desk(x: StrictX, tmp_path: Path) -> Desk:
    """A desk with the four secrets of OAuth 1.0a and a bearer token."""
    return Desk(x, tmp_path, {**x.user_secrets("desk"), "BEARER_TOKEN": x.bearer_token})


@pytest.fixture
def rotating(x: StrictX, tmp_path: Path) -> Desk:
    """A desk that logs in by OAuth 2, with a refresh token of its own."""
    secrets = {"CLIENT_ID": x.client_id, "CLIENT_SECRET": x.client_secret, "REFRESH_TOKEN": x.grant("desk")}
    return Desk(x, tmp_path, secrets)


def receipt_of(outcome: object) -> Receipt:
    assert isinstance(outcome, Sent), outcome
    return outcome.receipt


def posted(x: StrictX) -> list[str]:
    return [post.typed for post in x.standing("desk")]


def picture(mime: str = "image/png", side: int = 40) -> tuple[Media, bytes]:
    out = BytesIO()
    Image.effect_noise((side, side), 90).save(out, mime.partition("/")[2])
    media = Media(f"ore.{mime[6:]}", "A woman sorting ore", "digest", mime, out.tell(), side, side)
    return media, out.getvalue()


# ── Posting ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_post_is_one_request_and_its_receipt_tells_xs_own_time(desk: Desk, x: StrictX) -> None:
    x.clock.move(timedelta(days=3))
    receipt = receipt_of(desk.account().send(desk.wire("Habari ☕ & <b> 日本")))
    (post,) = x.standing("desk")
    assert (post.id, post.typed) == (receipt.remote_id, "Habari ☕ & <b> 日本")
    assert receipt.url == f"https://x.com/desk/status/{post.id}"
    assert receipt.at == post.created_at
    assert x.requests == [POST]


def test_a_part_of_a_thread_answers_the_one_before_it(desk: Desk, x: StrictX) -> None:
    account = desk.account()
    first = receipt_of(account.send(desk.wire("1")))
    second = receipt_of(account.send(desk.wire("2", Thread(first, first))))
    receipt_of(account.send(desk.wire("3", Thread(second, first))))
    posts = x.standing("desk")
    assert [post.id_of("replied_to") for post in posts] == ["", first.remote_id, second.remote_id]
    assert {post.conversation for post in posts} == {first.remote_id}


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "R&D < 5 > 3 &amp; “quotes”",
        "see https://example.org.",
        "see https://Example.ORG/A?b=1&copy=2#c and http://example.org/",
        "bare asm.org, readme.md and end.Next start",
        "https://bücher.example/straße https://xn--bcher-kva.example",
        "Cafe\u0301 👩‍👩‍👧 1️⃣ ❤️",
        "two\n\nlines  and   spaces ",
        "@other, thank you",
        "https://example.org/a https://example.org/a/b",
        "採" * 140,
    ],
)
def test_a_post_is_found_again_by_what_it_says(desk: Desk, text: str) -> None:
    wire = desk.wire(text)
    assert desk.account().look_up(wire) == Absent()
    receipt = receipt_of(desk.account().send(wire))
    again = desk.account().look_up(json.loads(json.dumps(wire)))
    assert again == Found(receipt)


def test_an_answer_is_found_also_where_x_puts_a_name_before_it(desk: Desk, x: StrictX) -> None:
    x.names_whom_it_answers = True
    asked = Receipt(x.say("other", "a question @desk").id)
    wire = desk.wire("an answer", Thread(asked, asked))
    receipt = receipt_of(desk.account().send(wire))
    assert x.posts[receipt.remote_id].text == "@other an answer"
    assert desk.account().look_up(wire) == Found(receipt)


def test_what_says_the_same_elsewhere_is_not_ours(desk: Desk, x: StrictX) -> None:
    first, second = Receipt(x.say("desk", "1").id), Receipt(x.say("desk", "2").id)
    x.say("desk", "the same", reply_to=first.remote_id)
    x.say("desk", "an old one", at=x.clock.now() - timedelta(hours=1))
    x.say("other", "somebody else's")
    assert desk.account().look_up(desk.wire("the same", Thread(second, second))) == Absent()
    assert desk.account().look_up(desk.wire("the same")) == Absent()
    assert desk.account().look_up(desk.wire("an old one")) == Absent()
    assert desk.account().look_up(desk.wire("somebody else's")) == Absent()
    assert desk.account().look_up(desk.wire("1", media=[{"media_id": "5"}])) == Absent()
    assert isinstance(desk.account().look_up(desk.wire("1")), Found)


def test_a_look_up_reads_every_page_before_it_says_absent(desk: Desk, x: StrictX) -> None:
    wire = desk.wire("the first of many")
    receipt = receipt_of(desk.account().send(wire))
    for number in range(120):
        x.say("desk", f"{number}")
    assert desk.account().look_up(wire) == Found(receipt)
    x.fail("GET /2/users/", "503", times=1)
    assert isinstance(desk.account().look_up(wire), Unclear)
    other = desk.wire("not there")
    assert desk.account().look_up(other) == Absent()


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_wrong_finds_the_post_all_the_same(desk: Desk, hours: int) -> None:
    desk.ahead = timedelta(hours=hours)
    wire = desk.wire()
    receipt = receipt_of(desk.account().send(wire))
    desk.account().identity()
    assert desk.account().look_up(wire) == Found(receipt)
    assert desk.account().look_up(desk.wire("not there")) == Absent()


@pytest.mark.parametrize("names", ["tweet", "post"])
def test_both_vocabularies_of_x_are_understood(desk: Desk, x: StrictX, names: str) -> None:
    x.names = names
    account = desk.account()
    first = receipt_of(account.send(desk.wire("1")))
    media, content = picture()
    ready = [account.prepare(media, content)]
    wire = desk.wire("2 https://example.org", Thread(first, first), ready)
    assert account.look_up(wire) == Absent()
    receipt = receipt_of(account.send(wire))
    assert account.look_up(wire) == Found(receipt)


# ── When it goes wrong ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["lose", "cut", "cut json", "list", "no id", "503 made"])
def test_a_made_post_without_a_readable_answer_is_unknown_and_found(desk: Desk, x: StrictX, kind: str) -> None:
    x.fail(POST, kind)
    wire = desk.wire()
    assert isinstance(desk.account().send(wire), Unknown)
    assert x.requests.count(POST) == 1
    assert isinstance(desk.account().look_up(wire), Found)


@pytest.mark.parametrize("kind", ["500", "503", "html", "close", "redirect"])
def test_an_answer_that_says_nothing_of_the_post_is_unknown_and_absent(desk: Desk, x: StrictX, kind: str) -> None:
    x.fail(POST, kind)
    wire = desk.wire()
    assert isinstance(desk.account().send(wire), Unknown)
    assert x.requests == [POST]
    assert desk.account().look_up(wire) == Absent()


@pytest.mark.parametrize(("kind", "made"), [("silence", 0), ("drip", 1)])
def test_no_server_keeps_us_longer_than_the_deadline(desk: Desk, x: StrictX, kind: str, made: int) -> None:
    x.fail(POST, kind, seconds=3_600 if kind == "silence" else 0.05)
    outcome = desk.account(call_seconds=0.5).send(desk.wire())
    assert isinstance(outcome, Unknown)
    assert len(posted(x)) == made


def test_a_dripping_server_keeps_no_look_up_longer_either(desk: Desk, x: StrictX) -> None:
    desk.account().identity()
    x.fail("GET /2/users/", "drip", seconds=0.05)
    assert isinstance(desk.account(call_seconds=0.5).look_up(desk.wire()), Unclear)


@pytest.mark.parametrize(
    ("kind", "seconds"),
    [("429", 300), ("429 missing", None), ("429 past", None), ("429 day", 7_200), ("429 code", 300)],
)
def test_a_limit_is_waited_for_as_its_headers_say(desk: Desk, x: StrictX, kind: str, seconds: int | None) -> None:
    x.fail(POST, kind)
    outcome = desk.account().send(desk.wire())
    assert isinstance(outcome, NotApplied)
    assert (outcome.kind, outcome.http_status) == ("later", 429)
    if seconds is None:
        assert outcome.until is None
    else:
        assert outcome.until is not None
        assert abs((outcome.until - desk.now()).total_seconds() - seconds) < 5
    assert x.requests == [POST]


def test_a_limit_is_counted_from_xs_clock_and_not_from_ours(desk: Desk, x: StrictX) -> None:
    x.fail(POST, "429")
    desk.ahead = timedelta(hours=-5)
    outcome = desk.account().send(desk.wire())
    assert isinstance(outcome, NotApplied)
    assert outcome.until is not None
    assert abs((outcome.until - desk.now()).total_seconds() - 300) < 5


@pytest.mark.parametrize(
    ("kind", "expected", "words"),
    [
        ("402", "money", "does not have any credits"),
        ("429 cap", "money", "Usage cap exceeded"),
        ("401", "account", "Unauthorized"),
        ("403 bare", "content", "not been mentioned"),
        ("html 403", "later", "403"),
    ],
)
def test_each_refusal_has_its_meaning(desk: Desk, x: StrictX, kind: str, expected: str, words: str) -> None:
    x.fail(POST, kind)
    outcome = desk.account().send(desk.wire())
    assert isinstance(outcome, NotApplied)
    assert outcome.kind == expected
    assert words in outcome.words
    assert posted(x) == []


def test_what_x_itself_refuses_is_told_in_its_words(desk: Desk, x: StrictX) -> None:
    stranger = Receipt(x.say("other", "hello").id)
    account = desk.account()
    too_long = account.send(desk.wire("採" * 141))
    gated = account.send(desk.wire("hello back", Thread(stranger, stranger)))
    no_picture = account.send(desk.wire("look", media=[{"media_id": "12"}]))
    assert [one.kind for one in (too_long, gated, no_picture) if isinstance(one, NotApplied)] == ["content"] * 3
    assert isinstance(too_long, NotApplied)
    assert "too long" in too_long.words
    assert isinstance(gated, NotApplied)
    assert REPLY_GATE in gated.words
    assert isinstance(no_picture, NotApplied)
    assert "media IDs are invalid" in no_picture.words
    x.balance = 0.01
    assert isinstance(broke := account.send(desk.wire()), NotApplied)
    assert broke.kind == "money"
    x.balance, x.accounts["desk"].suspended = None, True
    assert isinstance(gone := account.send(desk.wire()), NotApplied)
    assert gone.kind == "account"
    assert posted(x) == []


def test_a_text_that_x_has_already_is_unknown_until_somebody_looked(desk: Desk, x: StrictX) -> None:
    wire = desk.wire()
    x.fail(POST, "lose")
    assert isinstance(desk.account().send(wire), Unknown)
    again = desk.account().send(wire)
    assert isinstance(again, Unknown)
    assert DUPLICATE in again.why
    assert again.http_status == 403
    assert isinstance(desk.account().look_up(wire), Found)
    assert len(posted(x)) == 1


def test_a_write_that_is_read_late_is_absent_before_it_is_found(desk: Desk, x: StrictX) -> None:
    x.read_lag = timedelta(seconds=40)
    wire = desk.wire()
    x.fail(POST, "lose")
    desk.account().send(wire)
    assert desk.account().look_up(wire) == Absent()
    x.clock.move(timedelta(seconds=41))
    assert isinstance(desk.account().look_up(wire), Found)
    assert desk.account().settle >= timedelta(seconds=60)
    assert desk.account().keeps_key is None


@pytest.mark.parametrize("kind", ["503", "html", "list", "cut", "lose", "429", "401", "402", "short page", "redirect"])
def test_a_look_up_that_fails_proves_nothing(desk: Desk, x: StrictX, kind: str) -> None:
    wire = desk.wire()
    desk.account().send(wire)
    desk.account().identity()
    x.fail("GET /2/users/", kind)
    unclear = desk.account().look_up(wire)
    assert isinstance(unclear, Unclear)
    assert unclear.why


def test_a_server_that_is_not_there_took_nothing(desk: Desk) -> None:
    account = XAccount(desk.setting(server="http://127.0.0.1:9"))
    outcome = account.send(desk.wire())
    assert isinstance(outcome, NotApplied)
    assert (outcome.kind, outcome.until) == ("later", None)
    assert isinstance(account.look_up(desk.wire()), Unclear)
    nowhere = XAccount(desk.setting(server="https://x.invalid"))
    assert isinstance(nowhere.send(desk.wire()), NotApplied)


def test_a_proxy_of_the_environment_is_not_asked(desk: Desk, x: StrictX, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    receipt_of(desk.account().send(desk.wire()))


@pytest.mark.parametrize("server", ["ftp://x.example", "http://", "https:///2"])
def test_an_address_that_is_none_is_refused_in_words(desk: Desk, server: str) -> None:
    with pytest.raises(ConfigError, match="no address of X"):
        XAccount(desk.setting(server=server))


@pytest.mark.parametrize("server", ["", "https://api.x.com", "https://api.twitter.com", "api.x.com"])
def test_x_itself_is_asked_where_no_other_server_is_named(desk: Desk, server: str) -> None:
    from shareasm.networks.x.line import base_of

    assert base_of(server, "ours") == ""


def test_deleting_what_is_gone_is_no_error_and_what_is_not_ours_is_refused(desk: Desk, x: StrictX) -> None:
    account = desk.account()
    receipt = receipt_of(account.send(desk.wire()))
    account.delete(receipt)
    account.delete(receipt)
    with pytest.raises(Refused, match="not authorized to delete"):
        account.delete(Receipt(x.say("other", "1").id))
    assert posted(x) == []


def test_who_we_are_is_asked_once_and_again_with_other_keys(desk: Desk, x: StrictX) -> None:
    identity = desk.account().identity()
    assert (identity.handle, identity.native_id, identity.words) == ("desk", x.accounts["desk"].id, "")
    desk.account().look_up(desk.wire())
    assert x.requests.count("GET /2/users/me") == 1
    desk.secrets |= x.user_secrets("other")
    desk.account().look_up(desk.wire())
    assert x.requests.count("GET /2/users/me") == 2
    assert desk.account().identity().words == "The keys belong to @other."


def test_a_missing_secret_is_named(desk: Desk) -> None:
    del desk.secrets["ACCESS_SECRET"]
    with pytest.raises(ConfigError, match="ACCESS_SECRET"):
        desk.account().identity()
    outcome = desk.account().send(desk.wire())
    assert isinstance(outcome, NotApplied)
    assert outcome.kind == "account"
    assert isinstance(desk.account().look_up(desk.wire()), Unclear)


@pytest.mark.parametrize(
    ("text", "price"),
    [
        ("Thank you.We dig v1.2.3", 0.015),
        ("info@asm.org", 0.015),
        ("see https://example.org", 0.2),
        ("see asm.org", 0.2),
        ("end.Next start", 0.2),
    ],
)
def test_a_post_with_a_link_costs_what_x_asks_for_it(desk: Desk, x: StrictX, text: str, price: float) -> None:
    wire = desk.wire(text)
    assert desk.account().price(wire) == price
    desk.account().send(wire)
    assert x.spent() == pytest.approx(price)


def test_a_link_that_would_be_lost_is_refused_before_anything_is_sent(desk: Desk) -> None:
    with pytest.raises(ValueError, match=r"https://asm\.org"):
        desk.account().compose(desk.frozen("Habari", link="https://asm.org"), None, [])


class Cutter:
    """A second door of the strict X, which closes after so many bytes of the request or of the answer."""

    def __init__(self, x: StrictX) -> None:
        self.side, self.at = "", 0
        self.longest = {"request": 0, "answer": 0}
        self._target = ("127.0.0.1", int(x.url.rpartition(":")[2]))
        self._door = socket.create_server(("127.0.0.1", 0))
        self._lines: list[threading.Thread] = []
        self.url = f"http://127.0.0.1:{self._door.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        for line in self._lines:
            line.join()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                line = threading.Thread(target=self._line, args=(self._door.accept()[0],), daemon=True)
                self._lines.append(line)
                line.start()

    def _line(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as server:
            back = threading.Thread(target=self._carry, args=("answer", server, client))
            back.start()
            self._carry("request", client, server)
            back.join()

    def _carry(self, side: str, source: socket.socket, target: socket.socket) -> None:
        passed = 0
        with suppress(OSError):
            while data := source.recv(65_536):
                left = self.at - passed if side == self.side else len(data)
                target.sendall(data[:left])
                passed += len(data)
                self.longest[side] = max(self.longest[side], passed)
                if left < len(data):
                    break
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def test_a_line_that_is_cut_after_any_byte_never_leads_to_a_wrong_word(desk: Desk, x: StrictX) -> None:
    cutter, x.limits["POST /2/tweets"] = Cutter(x), 10_000
    try:
        account = XAccount(desk.setting(server=cutter.url))
        receipt_of(account.send(desk.wire("whole")))
        longest = dict(cutter.longest)
        assert min(longest.values()) > 200
        for side, size in longest.items():
            for at in range(0, size, 37):
                cutter.side, cutter.at = side, at
                wire = desk.wire(f"{side} {at}")
                outcome = account.send(wire)
                cutter.side = ""
                made = f"{side} {at}" in posted(x)
                assert isinstance(outcome, Unknown), (side, at, outcome)
                assert made or side == "request"
                assert isinstance(account.look_up(wire), Found if made else Absent)
    finally:
        cutter.close()


# ── Tokens that rotate ───────────────────────────────────────────────────────────────────────────────────────────────


def test_new_tokens_are_kept_before_they_are_used_and_serve_the_next_run(rotating: Desk, x: StrictX) -> None:
    x.fail(POST, "lose")
    rotating.account().send(rotating.wire())
    assert x.requests == [TOKEN, POST]
    assert json.loads(rotating.kept["tokens"])["refresh"] in x.refresh_tokens
    receipt_of(rotating.account().send(rotating.wire("after a restart")))
    assert x.requests == [TOKEN, POST, POST]


def test_a_token_that_is_over_is_renewed_by_the_last_refresh_token(rotating: Desk, x: StrictX) -> None:
    for number in range(3):
        receipt_of(rotating.account().send(rotating.wire(f"{number}")))
        x.clock.move(timedelta(hours=2))
    assert x.requests == [TOKEN, POST] * 3


def test_a_token_that_x_refuses_early_is_renewed_once(rotating: Desk, x: StrictX) -> None:
    rotating.account().identity()
    x.grants.clear()
    receipt_of(rotating.account().send(rotating.wire()))
    assert x.requests[-3:] == [POST, TOKEN, POST]
    x.fail(POST, "401", times=2)
    outcome = rotating.account().send(rotating.wire("2"))
    assert isinstance(outcome, NotApplied)
    assert outcome.kind == "account"
    assert x.requests[-3:] == [POST, TOKEN, POST]


def test_two_at_once_make_one_refresh(rotating: Desk, x: StrictX) -> None:
    accounts = [rotating.account() for _ in range(6)]
    outcomes: list[object] = []
    threads = [
        threading.Thread(target=lambda n=n, a=a: outcomes.append(a.send(rotating.wire(f"{n}"))))
        for n, a in enumerate(accounts)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(isinstance(outcome, Sent) for outcome in outcomes)
    assert x.requests.count(TOKEN) == 1


@pytest.mark.parametrize("kind", ["503", "lose", "429", "html", "close"])
def test_a_blip_of_the_refresh_is_no_dead_account(rotating: Desk, x: StrictX, kind: str) -> None:
    x.fail(TOKEN, kind)
    outcome = rotating.account().send(rotating.wire())
    assert isinstance(outcome, NotApplied)
    assert outcome.kind == "later"
    assert POST not in x.requests


def test_a_dead_refresh_token_needs_a_person_and_a_new_one_is_taken(rotating: Desk, x: StrictX) -> None:
    rotating.account().identity()
    x.grants.clear()
    x.refresh_tokens.clear()
    outcome = rotating.account().send(rotating.wire())
    assert isinstance(outcome, NotApplied)
    assert outcome.kind == "account"
    assert "REFRESH_TOKEN" in outcome.words
    with pytest.raises(LoginNeeded, match="ours"):
        rotating.account().identity()
    rotating.secrets["REFRESH_TOKEN"] = x.grant("desk")
    receipt_of(rotating.account().send(rotating.wire()))


def test_a_public_client_needs_no_secret(rotating: Desk, x: StrictX) -> None:
    del rotating.secrets["CLIENT_SECRET"]
    media, content = picture()
    ready = rotating.account().prepare(media, content)
    receipt_of(rotating.account().send(rotating.wire(media=[ready])))


def test_a_right_that_is_missing_is_a_fault_of_the_set_up(rotating: Desk, x: StrictX) -> None:
    rotating.secrets["REFRESH_TOKEN"] = x.grant("desk", "tweet.read", "users.read", "offline.access")
    outcome = rotating.account().send(rotating.wire())
    assert isinstance(outcome, NotApplied)
    assert outcome.kind == "account"


# ── Pictures ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("mime", ["image/png", "image/jpeg", "image/gif", "image/webp"])
def test_a_picture_arrives_whole_with_its_alt_text(desk: Desk, x: StrictX, mime: str) -> None:
    media, content = picture(mime)
    account = desk.account()
    ready = account.prepare(media, content)
    wire = desk.wire(media=[json.loads(json.dumps(ready))])
    receipt = receipt_of(account.send(wire))
    (upload,) = x.uploads.values()
    assert (upload.content, upload.alt) == (content, media.alt)
    assert x.posts[receipt.remote_id].media == [upload.key]
    assert account.look_up(wire) == Found(receipt)
    expires_at = datetime.fromisoformat(str(ready["expires_at"]))
    assert timedelta(hours=23) < expires_at - desk.now() <= timedelta(days=1)


def test_a_large_picture_goes_in_pieces(desk: Desk, x: StrictX) -> None:
    media, content = picture(side=1_500)
    assert len(content) > 2_000_000
    desk.account().prepare(media, content)
    (upload,) = x.uploads.values()
    assert len(upload.pieces) == len(content) // 1_000_000 + 1
    assert upload.content == content


def test_x_is_asked_until_it_has_looked_at_the_picture(desk: Desk, x: StrictX) -> None:
    x.processing = ("pending", "in_progress", "in_progress")
    desk.account().prepare(*picture())
    assert desk.waited == [1.0, 1.0, 1.0]
    assert x.requests.count("GET /2/media/upload") == 3


def test_a_picture_that_is_never_ready_is_given_up_in_time(desk: Desk, x: StrictX) -> None:
    x.processing = ("pending",) * 100
    with pytest.raises(Unreachable, match="not done"):
        desk.account(media_seconds=0.9).prepare(*picture())


def test_what_x_cannot_use_is_refused_for_good(desk: Desk, x: StrictX) -> None:
    media, content = picture()
    with pytest.raises(Refused, match="Unsupported file"):
        desk.account().prepare(replace(media, mime="image/jpeg"), content)
    with pytest.raises(Refused, match="alt_text"):
        desk.account().prepare(replace(media, alt="x" * 1_001), content)
    with pytest.raises(Refused, match=r"takes 5,000,000"):
        desk.account().prepare(media, content + bytes(LIMITS.picture_bytes))
    assert posted(x) == []


@pytest.mark.parametrize(
    ("kind", "error"), [("402", NoCredits), ("401", LoginNeeded), ("429", RateLimited), ("503", Unreachable)]
)
@pytest.mark.parametrize("step", ["initialize", "metadata"])
def test_a_fault_on_the_way_is_told_by_its_kind(
    desk: Desk, x: StrictX, kind: str, error: type[NetworkError], step: str
) -> None:
    x.fail("POST /2/media/upload/initialize" if step == "initialize" else "POST /2/media/metadata", kind)
    with pytest.raises(error):
        desk.account().prepare(*picture())
    desk.account().prepare(*picture())


def test_an_upload_that_is_too_old_makes_nothing(desk: Desk, x: StrictX) -> None:
    ready = desk.account().prepare(*picture())
    x.clock.move(timedelta(days=1, minutes=1))
    outcome = desk.account().send(desk.wire(media=[ready]))
    assert isinstance(outcome, NotApplied)
    assert outcome.kind == "content"
    assert posted(x) == []


# ── Secrets ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_secret_is_in_any_log_or_error(
    desk: Desk, rotating: Desk, x: StrictX, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("", "tweepy", "tweepy.client", "oauthlib", "requests_oauthlib", "urllib3", "httpcore"):
        caplog.set_level(logging.DEBUG, name)
    told: list[object] = []
    for some in (desk, rotating):
        for kind in ("lose", "401", "503", "html", "429", "cut json"):
            x.fail(POST, kind)
            told.append(some.account().send(some.wire(kind)))
            told.append(some.account().look_up(some.wire(kind)))
        told.append(some.account().prepare(*picture()))
        account = some.account()
        told += [vars(account), account._login.keys(time.monotonic() + 5)]
    x.refresh_tokens.clear()
    x.grants.clear()
    with pytest.raises(LoginNeeded) as error:
        rotating.account().identity()
    told += [error.value, error.getrepr()]
    with pytest.raises(NetworkError) as lost:
        list(XSource(desk.setting(server="http://127.0.0.1:9")).pages(desk.query(), None, live=False))
    told.append(lost.getrepr(style="short"))
    haystack = caplog.text + repr(told) + "".join(str(one) for one in told)
    secrets = {*desk.secrets.values(), *rotating.secrets.values(), *json.loads(rotating.kept["tokens"]).values()}
    secrets -= {x.client_id, json.loads(rotating.kept["tokens"])["ends_at"]}
    secrets.discard(json.loads(rotating.kept["tokens"])["seed"])
    assert [secret for secret in secrets if secret in haystack] == []


# ── Listening ────────────────────────────────────────────────────────────────────────────────────────────────────────


def read(source: XSource, query: Query, cursor: str | None = None) -> list[Page]:
    return list(source.pages(query, cursor, live=False))


def seen_in(pages: Sequence[Page]) -> list[Seen]:
    return [seen for page in pages for seen in page.seen]


def ids_in(pages: Sequence[Page]) -> list[str]:
    return [seen.native_id for seen in seen_in(pages)]


def end_of(pages: Sequence[Page]) -> str | None:
    return next((page.cursor for page in reversed(pages) if page.cursor), None)


def holes_in(pages: Sequence[Page]) -> list[str]:
    return [hole.why for page in pages for hole in page.holes]


def a_talk(x: StrictX) -> dict[str, str]:
    """A talk with everything that a post can be, so that two readers can be compared on it."""
    x.add_account("shy", protected=False, followers=7)
    made = {"root": x.say("other", f"R&D <b> see https://example.org {TAG} @desk", lang="en", like_count=4)}
    made["reply"] = x.say("shy", f"yes {TAG}", reply_to=made["root"].id, lang="und")
    made["quote"] = x.say("desk", f"look {TAG} asm.org", quote=made["root"].id, lang="sw")
    made["both"] = x.say("desk", f"and {TAG}", reply_to=made["reply"].id, quote=made["root"].id, lang="qht")
    made["edited"] = x.edit(x.say("shy", f"befor {TAG} #AndThis").id, f"before {TAG} #AndThis")
    made["quote"].media.append("3_31")
    return {name: post.id for name, post in made.items()}


@pytest.mark.parametrize("names", ["tweet", "post"])
def test_a_page_reads_as_the_same_page_in_an_archive(desk: Desk, x: StrictX, names: str) -> None:
    x.names = names
    a_talk(x)
    captured: list[bytes] = []
    source = desk.source()
    ask = source._ask

    def tap(route: str, params: dict[str, str]) -> Any:
        answer = ask(route, params)
        captured.append(answer.body)
        return answer

    source._ask = tap  # type: ignore[method-assign] - it only listens
    read(source, desk.query())
    at = datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC)
    body = next(body for body in captured if b'"includes"' in body)
    shown = read_page(body, at)
    line = json.dumps({**json.loads(body), "__twarc": {"retrieved_at": at.isoformat()}}).encode()
    (batch,) = twarc2.read(BytesIO(line))
    assert len(shown.seen) == 5
    assert list(shown.seen) == list(batch.seen)
    assert list(shown.context) == list(batch.context)


def test_every_post_is_given_once_oldest_first_and_the_cursor_never_goes_back(desk: Desk, x: StrictX) -> None:
    now = x.clock.now()
    made = [x.say("other", f"{n} {TAG}", at=now - timedelta(minutes=3 * n + 1)).id for n in range(250)]
    source = desk.source()
    pages = read(source, desk.query(since=timedelta(days=2)))
    assert ids_in(pages) == made[::-1]
    cursors = [int(page.cursor) for page in pages if page.cursor]
    assert cursors == sorted(cursors)
    assert holes_in(pages) == []
    assert ids_in(read(source, desk.query(since=timedelta(days=2)), end_of(pages))) == []


def test_a_new_process_reads_on_from_the_cursor_and_loses_nothing(desk: Desk, x: StrictX) -> None:
    first = x.say("other", f"1 {TAG}").id
    pages = read(desk.source(), desk.query())
    assert ids_in(pages) == [first]
    x.clock.move(timedelta(minutes=30))
    second = x.say("other", f"2 {TAG}").id
    assert ids_in(read(desk.source(), desk.query(), end_of(pages)))[-1] == second


def test_what_comes_late_into_the_search_is_found_by_looking_back(desk: Desk, x: StrictX) -> None:
    source = desk.source()
    late = x.say("other", f"late {TAG}", visible_after=timedelta(seconds=100)).id
    pages = read(source, desk.query())
    assert ids_in(pages) == []
    x.clock.move(timedelta(seconds=101))
    assert ids_in(read(source, desk.query(), end_of(pages))) == [late]


def test_what_is_before_the_seven_days_is_a_hole(desk: Desk, x: StrictX) -> None:
    x.say("other", f"1 {TAG}", at=x.clock.now() - timedelta(days=8))
    inside = x.say("other", f"2 {TAG}", at=x.clock.now() - timedelta(days=6)).id
    pages = read(desk.source(), desk.query(since=timedelta(days=9)))
    assert ids_in(pages) == [inside]
    (hole,) = [hole for page in pages for hole in page.holes]
    assert "outside the 7 days" in hole.why
    assert hole.from_at is not None
    assert hole.to_at is not None
    assert abs(desk.now() - timedelta(days=7) - hole.to_at) < timedelta(minutes=2)


def test_posts_that_x_counts_and_does_not_show_are_a_hole_there(desk: Desk, x: StrictX) -> None:
    now = x.clock.now().replace(minute=30)
    for n in range(60):
        x.say("other", f"{n} {TAG}", at=now - timedelta(hours=3, seconds=n))
    for post in list(x.posts.values())[:7]:
        post.searchable = False
    pages = read(desk.source(), desk.query(since=timedelta(hours=8)))
    (hole,) = [hole for page in pages for hole in page.holes]
    assert hole.why == "count_mismatch 7: X counts 60 posts, its search gave 53"
    assert hole.from_at == (now - timedelta(hours=3)).replace(minute=0, second=0, microsecond=0)
    assert hole.to_at == hole.from_at + timedelta(hours=1)
    assert len(ids_in(pages)) == 53


def test_a_post_more_or_less_is_no_hole(desk: Desk, x: StrictX) -> None:
    posts = [x.say("other", f"{n} {TAG}", at=x.clock.now() - timedelta(hours=3, seconds=n)) for n in range(20)]
    posts[0].searchable = False
    assert holes_in(read(desk.source(), desk.query(since=timedelta(hours=8)))) == []


def test_a_page_lost_midway_costs_nothing(desk: Desk, x: StrictX) -> None:
    made = [x.say("other", f"{n} {TAG}", at=x.clock.now() - timedelta(minutes=20, seconds=n)).id for n in range(250)]
    source, kept = desk.source(), list[Page]()
    x.fail(SEARCH, "503", times=1)
    pages = source.pages(desk.query(), None, live=False)
    for kind in ("short page", "list", "lose"):
        with pytest.raises(Unreachable):
            kept += pages
        x.fail(SEARCH, kind)
        pages = source.pages(desk.query(), end_of(kept), live=False)
    with pytest.raises(Unreachable):
        kept += pages
    kept += source.pages(desk.query(), end_of(kept), live=False)
    assert sorted(ids_in(kept)) == sorted(made)


def test_what_was_read_before_a_fault_is_given_without_a_cursor(desk: Desk, x: StrictX) -> None:
    for n in range(150):
        x.say("other", f"{n} {TAG}")
    source, kept = desk.source(), list[Page]()
    pages = source.pages(desk.query(), None, live=False)
    for page in pages:
        kept.append(page)
        if x.requests.count(SEARCH) == 2:  # the first of the tail
            x.fail(SEARCH, "503")
            break
    with pytest.raises(Unreachable):
        for page in pages:
            kept.append(page)
    assert len(ids_in(kept)) == 100
    assert all(page.cursor is None for page in kept if page.seen)
    assert len(ids_in(read(source, desk.query(), end_of(kept)))) == 50


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("402", NoCredits),
        ("429", RateLimited),
        ("429 cap", RateLimited),
        ("401", LoginNeeded),
        ("403 bare", Refused),
        ("503", Unreachable),
        ("html", Unreachable),
        ("silence", Unreachable),
    ],
)
def test_a_search_that_fails_is_told_by_its_kind(desk: Desk, x: StrictX, kind: str, error: type[NetworkError]) -> None:
    x.fail(SEARCH, kind, seconds=0.1)
    with pytest.raises(error):
        read(desk.source(), desk.query())


def test_spending_stops_when_the_credits_are_gone(desk: Desk, x: StrictX) -> None:
    for n in range(300):
        x.say("other", f"{n} {TAG}")
    x.balance = 0.6
    source = desk.source()
    for _ in range(3):
        with pytest.raises(NoCredits):
            read(source, desk.query())
    assert x.balance == 0
    assert x.spent() < 0.6 + 100 * 0.005 + 0.02


def test_reading_again_the_same_day_costs_no_post_twice(desk: Desk, x: StrictX) -> None:
    for n in range(30):
        x.say("other", f"{n} {TAG}")
    source = desk.source()
    pages = read(source, desk.query())
    spent = x.spent()
    assert spent == pytest.approx(30 * 0.005 + 0.010 + 0.005)
    for _ in range(4):
        pages = read(source, desk.query(), end_of(pages))
    assert x.spent() == spent


def test_a_deletion_and_an_account_that_hid_are_told(desk: Desk, x: StrictX) -> None:
    shy = x.add_account("shy")
    gone, hidden, stays = (x.say(name, f"{name} {TAG}") for name in ("other", "shy", "desk"))
    source = desk.source()
    pages = read(source, desk.query())
    x.take_away(gone.id)
    shy.protected = True
    stays.searchable = False
    after = read(source, desk.query(), end_of(pages))
    assert [one for page in after for one in page.removed] == [Removed("x", gone.id)]
    assert [one for page in after for one in page.accounts] == [AccountChanged("x", hidden.author, active=False)]
    again = read(source, desk.query(), end_of(after))
    assert x.requests.count("GET /2/tweets") == 1
    assert [one for page in again for one in page.removed] == []


def test_a_post_comes_again_when_it_was_edited_or_liked(desk: Desk, x: StrictX) -> None:
    liked, edited, quiet = (x.say("other", f"{n} {TAG}") for n in range(3))
    source = desk.source()
    pages = read(source, desk.query())
    x.like(liked.id, 3)
    quiet.metrics["impression_count"] = 50
    x.edit(edited.id, f"one {TAG}")
    again = seen_in(read(source, desk.query(), end_of(pages)))
    assert {(seen.native_id, seen.counts.likes, seen.text) for seen in again} == {
        (liked.id, 3, liked.text),
        (edited.id, 0, f"one {TAG}"),
    }


def test_live_there_is_a_page_a_second_and_the_new_is_polled_for(desk: Desk, x: StrictX) -> None:
    source = desk.source()
    with closing(source.pages(desk.query(), None, live=True)) as pages:  # type: ignore[type-var]
        list(islice(pages, 3))
        post = x.say("other", f"new {TAG}")
        assert any(post.id in ids_in([page]) for page in islice(pages, 1_000))
    assert max(desk.waited) <= 1


def test_live_a_limit_is_waited_for_in_place(desk: Desk, x: StrictX) -> None:
    source = desk.source()
    with closing(source.pages(desk.query(), None, live=True)) as pages:  # type: ignore[type-var]
        list(islice(pages, 4))
        x.fail(SEARCH, "429")
        while x.faults:
            next(pages)
        asked = x.requests.count(SEARCH)
        waiting = list(islice(pages, 150))
    assert x.requests.count(SEARCH) == asked
    assert all(page == Page() for page in waiting)


def test_live_a_limit_of_a_day_is_told(desk: Desk, x: StrictX) -> None:
    with closing(desk.source().pages(desk.query(), None, live=True)) as pages:  # type: ignore[type-var]
        list(islice(pages, 4))
        x.fail(SEARCH, "429 day", times=5)
        with pytest.raises(RateLimited):
            list(pages)


def test_a_source_without_a_bearer_token_says_so(desk: Desk) -> None:
    del desk.secrets["BEARER_TOKEN"]
    with pytest.raises(ConfigError, match="BEARER_TOKEN"):
        networks.network("x").open_source(desk.setting())


@pytest.mark.parametrize("wished", [0, -1, "30", True, 10**9])
def test_a_strange_pace_is_refused(desk: Desk, wished: object) -> None:
    with pytest.raises(ConfigError, match="poll_seconds"):
        desk.source(poll_seconds=wished)


def test_searches_are_as_few_as_xs_length_allows() -> None:
    assert search_queries(["#shareASM", "SHAREASM", "#A&SM"]) == ['(#shareASM OR "A&SM") -is:retweet']
    many = search_queries([f"tag{n:03}" for n in range(100)])
    assert all(len(query) <= 512 for query in many)
    assert " ".join(many).count("#tag") == 100
    assert len(many) == 3


def test_many_hashtags_are_read_by_several_searches(desk: Desk, x: StrictX) -> None:
    tags = [f"#tag{n:03}" for n in range(100)]
    made = [x.say("other", f"{n} #tag{n:03} #tag{(n + 50) % 100:03}").id for n in range(0, 100, 7)]
    assert sorted(ids_in(read(desk.source(), desk.query(*tags)))) == sorted(made)
    assert x.problems == []


def test_the_edge_of_x_is_respected_and_nothing_is_promised_beyond_it(desk: Desk, x: StrictX) -> None:
    x.say("other", f"1 {TAG}")
    pages = read(desk.source(), desk.query(since=timedelta(days=3)))
    assert x.problems == []
    until = pages[-1].complete_until
    assert until is not None
    assert timedelta(seconds=29) <= desk.now() - until <= timedelta(seconds=35)


def test_a_campaign_of_tomorrow_is_complete_until_now_and_not_longer(desk: Desk, x: StrictX) -> None:
    query = replace(desk.query(), since=desk.now() + timedelta(days=1), until=desk.now() + timedelta(days=2))
    until = read(desk.source(), query)[-1].complete_until
    assert until is not None
    assert until <= desk.now()
