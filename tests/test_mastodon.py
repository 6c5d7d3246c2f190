"""Mastodon: against a strict server that counts, and against mastodon-mock, another author's."""

import contextlib
import json
import random
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mastodon_mock.testing.server import MockServer

from shareasm.errors import ConfigError, LoginNeeded, NetworkError, RateLimited, Refused, Unreachable
from shareasm.model import (
    Absent,
    Counts,
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
    WorldClock,
)
from shareasm.networks import Setting, mastodon
from shareasm.networks.mastodon.account import MastodonAccount
from shareasm.networks.mastodon.instance import instance_of
from shareasm.networks.mastodon.library import written
from shareasm.networks.mastodon.line import Line
from shareasm.networks.mastodon.look_up import compare
from shareasm.networks.mastodon.markup import words_of
from shareasm.networks.mastodon.seen import View, is_mention, seen_post
from shareasm.networks.mastodon.source import MastodonSource, groups_of
from shareasm.networks.mastodon.walk import Trail, Walk
from tests.servers.mastodon import TOKENS
from tests.servers.strict_mastodon import Html, Ids, Post, Reset, StrictMastodon

TAG = "shareASM"
LINK = "https://www.iied.org/artisanal-and-small-scale-mining?a=1&b=2"
TEXT = f"Mines & people: <b>why</b> @kim@one.test? “Ça va”  ☕\nRead {LINK}\n\n#shareASM #Tanzanía"
NAMES = [
    "id", "uri", "url", "created_at", "edited_at", "visibility", "language", "spoiler_text", "in_reply_to_id",
    "in_reply_to_account_id", "reblog", "content", "account", "tags", "mentions", "media_attachments", "card",
    "favourites_count", "reblogs_count", "replies_count", "quotes_count", "quote", "quoted_status", "acct",
    "username", "display_name", "bot", "indexable", "noindex", "note", "followers_count", "name", "remote_url",
    "configuration", "statuses", "max_characters", "version", "source_url", "domain",
]  # fmt: skip
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
KEYS = count(1)


class MovedClock(WorldClock):
    """The world's clock, moved by hand."""


@pytest.fixture
def server() -> Iterator[StrictMastodon]:
    with StrictMastodon() as strict:
        yield strict


def setting(url: str, token: str | None = TOKENS["desk"], **changes: Any) -> Setting:
    def secret(field: str) -> str:
        if token is None:
            raise ConfigError(f"SHAREASM_OURS_{field} is missing.")
        return token

    kept: dict[str, str] = {}
    plain = Setting("mastodon", "ours", url, "desk", Path(), WorldClock(), secret, save=kept.__setitem__, load=kept.get)
    return replace(plain, **changes)


def account(server: StrictMastodon, **changes: Any) -> MastodonAccount:
    return MastodonAccount(setting(server.url, **changes), call_seconds=1.5, media_seconds=3.0, poll_seconds=0.01)


def frozen(text: str = f"A mine in Tanga #{TAG}", **changes: Any) -> Frozen:
    plain = Frozen("mastodon", "ours", text, "sw", 1, 1, datetime.now(UTC), f"3m{next(KEYS):011d}")
    return replace(plain, **changes)


def wire_of(ours: MastodonAccount, text: str = f"A mine in Tanga #{TAG}", **changes: Any) -> Wire:
    return ours.compose(frozen(text, **changes), None, [])


def posted(ours: MastodonAccount, wire: Wire) -> Receipt:
    outcome = ours.send(wire)
    assert isinstance(outcome, Sent), outcome
    return outcome.receipt


# ── What goes out ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_visibility_language_and_warning_are_always_sent(server: StrictMastodon) -> None:
    ours = account(server)
    posted(ours, wire_of(ours, "Blasting #shareASM", warning="Noise"))
    (form,) = server.forms
    assert form == {
        "status": ["Blasting #shareASM"],
        "visibility": ["public"],
        "language": ["sw"],
        "spoiler_text": ["Noise"],
        "sensitive": ["0"],
    }
    assert server.by("desk")[0].visibility == "public"  # this server's default is unlisted


def test_a_send_is_one_request(server: StrictMastodon) -> None:
    ours = account(server)
    posted(ours, wire_of(ours))
    assert server.requests == ["POST /api/v1/statuses"]


def test_the_key_depends_on_the_frozen_key_alone() -> None:
    ours = MastodonAccount(setting("https://one.test"))
    post = frozen()
    first, again = ours.compose(post, None, []), ours.compose(replace(post, text="other"), None, [])
    assert first["key"] == again["key"] != wire_of(ours)["key"]
    assert len(first["key"]) == 36


def test_mastodon_py_may_write_one_request_and_no_more() -> None:
    line = Line(setting("https://one.test"))
    with pytest.raises(ValueError, match="second request"):
        written(line, "t", lambda library: library.timeline_hashtag("x"))  # it asks for the instance first
    with pytest.raises(ValueError, match="visibility"):
        written(line, "t", lambda library: library.status_post("x", visibility="all"))


def test_what_would_be_lost_is_refused_before_it_is_sent() -> None:
    ours = MastodonAccount(setting("https://one.test"))
    picture = Media("a.png", "A pit", "d1", "image/png", 1, 1, 1)
    with pytest.raises(ValueError, match="link"):
        ours.compose(frozen(link="https://iied.org"), None, [])
    with pytest.raises(ValueError, match="1 pictures were approved"):
        ours.compose(frozen(media=(picture,)), None, [])
    with pytest.raises(ValueError, match="another alt text"):
        ours.compose(frozen(media=(picture,)), None, [{"id": "1", "alt": "A logo", "focus": ""}])
    with pytest.raises(ValueError, match="visibility"):
        ours.compose(frozen(visibility="everybody"), None, [])
    nowhere = Receipt("https://one.test/")
    with pytest.raises(ValueError, match="cannot be answered"):
        ours.compose(frozen(), Thread(nowhere, nowhere), [])


def test_a_part_answers_a_post_that_a_person_pointed_at(server: StrictMastodon) -> None:
    ours = account(server)
    first = posted(ours, wire_of(ours, "1"))
    by_hand = Receipt(remote_id=first.remote_id)
    posted(ours, ours.compose(frozen("2"), Thread(by_hand, by_hand), []))
    assert server.by("desk")[1].parent == first.cid


# ── The server's word about itself ───────────────────────────────────────────────────────────────────────────────────


def test_limits_are_read_from_the_server_once_an_hour(server: StrictMastodon) -> None:
    clock = MovedClock()
    ours = account(server, clock=clock)
    limits = [ours.limits() for _ in range(3)][-1]
    assert (limits.text, limits.pictures, limits.link_weight, limits.alt_text) == (500, 6, 23, 1400)
    assert server.requests == ["GET /api/v2/instance"]
    server.max_characters = 1000
    clock.offset = HOUR + MINUTE
    assert ours.limits().text == 1000


def test_limits_are_the_defaults_where_the_server_says_nothing(server: StrictMastodon) -> None:
    server.tells_instance = False
    ours = account(server)
    assert ours.limits() == mastodon.LIMITS
    assert (ours.keeps_key, ours.settle.total_seconds()) == (None, 60)
    ours.limits()
    assert server.requests == ["GET /api/v2/instance"]  # no old address, and not again at once
    assert MastodonAccount(setting("http://127.0.0.1:1")).limits() == mastodon.LIMITS


@pytest.mark.parametrize(
    ("source", "version", "keeps"),
    [
        ("https://github.com/mastodon/mastodon", "4.5.1", True),
        ("https://github.com/glitch-soc/mastodon.git", "4.4.0+glitch", True),
        ("https://github.com/fedify-dev/hollo", "0.6.19", True),
        ("https://github.com/matthewdeanmartin/mastodon_mock", "4.6.0", True),
        ("https://codeberg.org/superseriousbusiness/gotosocial", "0.20.0 git-9e1", False),
        ("https://github.com/jointakahe/takahe", "takahe/0.11.0", False),
        ("https://github.com/pixelfed/pixelfed", "3.5.3 (compatible; Pixelfed 0.12.4)", False),
        ("https://github.com/mastodon/mastodon", "4.0.0 (not true; really snac 2.75)", False),
        ("https://example.org/newcomer", "4.5.1", False),
        ("", "4.5.1", False),
    ],
)
def test_a_key_is_trusted_only_where_the_software_is_known_to_keep_it(source: str, version: str, keeps: bool) -> None:
    assert instance_of({"source_url": source, "version": version}, datetime.now(UTC)).honours_key is keeps


def test_keeps_key_is_known_after_asking_and_after_a_restart(server: StrictMastodon) -> None:
    told = setting(server.url)
    ours = MastodonAccount(told)
    assert ours.keeps_key is None
    assert "mastodon 4.5.1; it keeps our keys" in ours.identity().words
    assert (ours.keeps_key, ours.settle.total_seconds()) == (timedelta(minutes=55), 45)
    assert ours.keeps_key < server.key_life
    assert MastodonAccount(told).keeps_key == ours.keeps_key


@pytest.mark.parametrize(
    ("options", "keeps", "settle"),
    [
        ({"honours_key": False}, None, 60),
        ({"honours_key": True}, timedelta(minutes=55), 45),
        ({"honours_key": False, "absent": "resend"}, timedelta(minutes=55), 60),
        ({"settle": 90}, timedelta(minutes=55), 90),
    ],
)
def test_a_person_may_know_better(
    server: StrictMastodon, options: dict[str, object], keeps: timedelta | None, settle: int
) -> None:
    ours = account(server, options=options)
    ours.limits()
    assert (ours.keeps_key, ours.settle.total_seconds()) == (keeps, settle)


# ── Once ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("reset", ["iso", "numeric", "missing", "unreadable"])
def test_no_rate_limit_header_can_lose_an_answer(server: StrictMastodon, reset: Reset) -> None:
    server.reset = reset
    ours = account(server)
    wire = wire_of(ours)
    assert len({posted(ours, wire).remote_id for _ in range(3)}) == 1
    assert len(server.posts) == 1


@pytest.mark.parametrize(
    ("fault", "is_there"),
    [
        ("drop", True),
        ("drop before", False),
        ("500", True),
        ("html", True),
        ("cut", True),
        ("nonsense", True),
        ("drip", True),
        ("silence", True),
        ("elsewhere", False),
    ],
)
def test_a_lost_answer_is_unknown_and_a_look_tells(server: StrictMastodon, fault: Any, is_there: bool) -> None:
    ours = account(server)
    wire = wire_of(ours)
    server.fault(fault)
    assert isinstance(ours.send(wire), Unknown)
    found = ours.look_up(wire)
    assert len(server.posts) == is_there
    if is_there:
        assert isinstance(found, Found)
        assert (found.same, found.receipt.remote_id) == (True, server.posts[0].uri)
    else:
        assert found == Absent()
    assert posted(ours, wire).remote_id == server.posts[0].uri
    assert len(server.posts) == 1


def test_a_500_on_a_repeated_key_is_unknown_and_the_post_is_found(server: StrictMastodon) -> None:
    server.repeated_key_is_500 = True
    ours = account(server)
    wire = wire_of(ours)
    first = posted(ours, wire)
    assert isinstance(ours.send(wire), Unknown)
    found = ours.look_up(wire)
    assert isinstance(found, Found)
    assert found.receipt.remote_id == first.remote_id


def test_a_key_is_over_after_an_hour(server: StrictMastodon) -> None:
    ours = account(server)
    wire = wire_of(ours)
    posted(ours, wire)
    server.ahead = timedelta(minutes=55)
    posted(ours, wire)
    assert len(server.posts) == 1
    server.ahead = timedelta(minutes=61)
    posted(ours, wire)
    assert len(server.posts) == 2  # why the desk asks a person after 55 minutes


def test_a_server_without_keys_makes_every_post_anew(server: StrictMastodon) -> None:
    server.keeps_keys, server.source_url = False, "https://codeberg.org/superseriousbusiness/gotosocial"
    ours = account(server)
    wire = wire_of(ours)
    server.fault("drop")
    assert isinstance(ours.send(wire), Unknown)
    assert isinstance(ours.look_up(wire), Found)
    assert ours.keeps_key is None


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, "Validation failed", "content"),
        (400, "Invalid access token", "account"),
        (401, "The access token was revoked", "account"),
        (402, "", "money"),
        (403, "This action is not allowed", "content"),
        (403, "This action is outside the authorized scopes", "account"),
        (403, "Your login is currently disabled", "account"),
        (404, "Not Found", "later"),
        (413, "<html>Request Entity Too Large</html>", "content"),
        (422, "Validation failed: Text can't be blank", "content"),
        (422, "This method requires an authenticated user", "account"),
        (422, "Cannot attach files that have not finished processing. Try again in a moment!", "later"),
        (429, "Too many requests", "later"),
    ],
)
def test_a_refusal_is_sorted_and_nothing_is_there(server: StrictMastodon, status: int, error: str, kind: str) -> None:
    ours = account(server)
    server.reply(status, {"error": error})
    outcome = ours.send(wire_of(ours))
    assert isinstance(outcome, NotApplied)
    assert (outcome.kind, outcome.http_status) == (kind, status)
    assert server.posts == []


@pytest.mark.parametrize("status", [302, 405, 408, 409, 410, 418, 500, 502, 503, 504, 520])
def test_what_is_not_surely_a_refusal_is_unknown(server: StrictMastodon, status: int) -> None:
    ours = account(server)
    server.reply(status, {"error": "no"})
    outcome = ours.send(wire_of(ours))
    assert isinstance(outcome, Unknown)
    assert outcome.http_status == status


@pytest.mark.parametrize("status", [422, 400])
def test_a_text_that_is_too_long_will_never_pass(server: StrictMastodon, status: int) -> None:
    server.too_long = status
    ours = account(server)
    outcome = ours.send(wire_of(ours, "x" * 501))
    assert isinstance(outcome, NotApplied)
    assert outcome.kind == "content"
    assert "500" in outcome.words


def test_an_answer_to_nothing_will_never_pass(server: StrictMastodon) -> None:
    ours = account(server)
    gone = Receipt("https://strict.test/1", cid="116000000000000000")
    outcome = ours.send(ours.compose(frozen(), Thread(gone, gone), []))
    assert isinstance(outcome, NotApplied)
    assert outcome.kind == "content"


@pytest.mark.parametrize(
    ("reset", "headers", "minutes"),
    [
        ("iso", {}, 5),
        ("numeric", {}, 5),
        ("missing", {}, None),
        ("unreadable", {}, None),
        ("missing", {"Retry_After": "120"}, 2),
        ("iso", {"X_RateLimit_Reset": "2015-06-25T00:00:00Z"}, None),
        ("iso", {"X_RateLimit_Reset": "9" * 30}, None),
        ("iso", {"X_RateLimit_Reset": "nan"}, None),
    ],
)
def test_how_long_to_wait_is_read_in_every_spelling(
    server: StrictMastodon, reset: Reset, headers: dict[str, str], minutes: int | None
) -> None:
    server.reset, server.ahead = reset, timedelta(minutes=40)  # their clock is wrong, and it does not matter
    server.reply(429, {"error": "Too many requests"}, **headers)
    outcome = account(server).send(wire_of(account(server)))
    assert isinstance(outcome, NotApplied)
    if minutes is None:
        assert outcome.until is None
    else:
        assert outcome.until is not None
        assert abs(outcome.until - datetime.now(UTC) - minutes * MINUTE) < timedelta(seconds=20)


def test_a_refused_connection_means_that_nothing_was_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    ours = MastodonAccount(setting(url))
    wire = wire_of(ours)
    outcome = ours.send(wire)
    assert isinstance(outcome, NotApplied)
    assert outcome.kind == "later"
    assert isinstance(ours.look_up(wire), Unclear)


def test_a_wrong_token_names_the_variable(server: StrictMastodon) -> None:
    ours = account(server)
    wire = wire_of(ours)
    server.revoked.add(TOKENS["desk"])
    outcome = ours.send(wire)
    assert isinstance(outcome, NotApplied)
    assert outcome.kind == "account"
    assert "SHAREASM_OURS_ACCESS_TOKEN" in outcome.words
    assert isinstance(ours.look_up(wire), Unclear)
    with pytest.raises(LoginNeeded, match="SHAREASM_OURS_ACCESS_TOKEN") as told:
        ours.identity()
    assert TOKENS["desk"] not in str(told.value)


@pytest.mark.parametrize(("status", "error"), [(400, "Token not found"), (422, "requires an authenticated user")])
def test_a_wrong_token_is_known_where_others_say_it_otherwise(server: StrictMastodon, status: int, error: str) -> None:
    server.reply(status, {"error": error}, "verify_credentials")
    with pytest.raises(LoginNeeded):
        account(server).identity()


@pytest.mark.parametrize("token", [None, "", "two\nlines", "töken"])
def test_without_a_token_nothing_is_sent(server: StrictMastodon, token: str | None) -> None:
    ours = MastodonAccount(setting(server.url, token))
    outcome = ours.send(wire_of(ours))
    assert isinstance(outcome, NotApplied)
    assert outcome.kind == "account"
    assert server.requests == []


class Cutter:
    """Stands before a server and ends each connection after so many bytes of the request, or of the answer."""

    def __init__(self, port: int) -> None:
        self._target, self._listener = port, socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.request_bytes = self.answer_bytes = 1 << 30
        self.passed = [0, 0]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._carry(self._listener.accept()[0])

    def _carry(self, client: socket.socket) -> None:
        self.passed = [0, 0]
        with client, socket.create_connection(("127.0.0.1", self._target)) as server, contextlib.suppress(OSError):
            left, right = (client, server), (server, client)
            while self.passed[1] == 0 and self._is_whole(client):
                if not self._pass(*left, 0, self.request_bytes):
                    return
            while self._pass(*right, 1, self.answer_bytes):
                pass

    def _is_whole(self, client: socket.socket) -> bool:
        client.settimeout(0.03)
        try:
            return bool(client.recv(1, socket.MSG_PEEK))
        except TimeoutError:
            return False

    def _pass(self, source: socket.socket, target: socket.socket, way: int, most: int) -> bool:
        content = source.recv(min(65536, most - self.passed[way]) or 1)
        if not content or self.passed[way] >= most:
            return False
        target.sendall(content)
        self.passed[way] += len(content)
        return self.passed[way] < most


@pytest.mark.parametrize("way", ["request", "answer"])
def test_a_line_cut_anywhere_gives_the_right_class(server: StrictMastodon, way: str) -> None:
    cutter = Cutter(int(server.url.rpartition(":")[2]))
    with closing(cutter):
        ours = MastodonAccount(setting(cutter.url), call_seconds=2.0)
        posted(ours, wire_of(ours))
        whole = cutter.passed[way == "answer"]
        for most in range(1, whole, 41):
            setattr(cutter, f"{way}_bytes", most)
            server.posts.clear()
            outcome = ours.send(wire_of(ours))
            assert isinstance(outcome, Unknown), (most, outcome)
            assert len(server.posts) == (way == "answer")


# ── Looking ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("ids", ["numbers", "ulid", "long"])
@pytest.mark.parametrize("html", ["mastodon", "gotosocial", "takahe", "snac", "hollo"])
def test_a_post_is_known_again_in_the_html_of_every_server(server: StrictMastodon, ids: Ids, html: Html) -> None:
    server.ids, server.html = ids, html
    ours = account(server)
    wire = wire_of(ours, TEXT)
    receipt = posted(ours, wire)
    for place in range(45):  # it stands on the second page
        server.say(f"Later {place}", "desk")
    found = ours.look_up(wire)
    assert isinstance(found, Found)
    assert (found.same, found.receipt) == (True, receipt)


def test_only_pages_that_reach_back_prove_absence(server: StrictMastodon) -> None:
    ours = account(server)
    wire = wire_of(ours)
    for place in range(60):
        server.say(f"Later {place}", "desk")
    server.pages_by_id = False
    assert isinstance(ours.look_up(wire), Unclear)
    server.pages_by_id = True
    assert ours.look_up(wire) == Absent()
    server.say("Long ago", "desk", made=server.now() - HOUR)
    server.forget_requests()
    assert ours.look_up(wire) == Absent()


def test_a_look_reads_no_further_back_than_the_intent(server: StrictMastodon) -> None:
    for place in range(100):
        server.say(f"Before {place}", "desk", made=server.now() - HOUR)
    ours = account(server)
    ours.identity()
    server.forget_requests()
    assert ours.look_up(wire_of(ours)) == Absent()
    assert len(server.requests) == 1


def test_the_same_words_of_yesterday_are_not_this_post(server: StrictMastodon) -> None:
    ours = account(server)
    wire = wire_of(ours, "We are live now! #shareASM")
    server.say("We are live now! #shareASM", "desk", made=server.now() - 24 * HOUR, language="sw")
    assert ours.look_up(wire) == Absent()


@pytest.mark.parametrize(
    "told",
    [
        {"language": "en"},
        {"warning": "Noise"},
        {"media": [{"id": "1"}]},
        {"text": "A *mine* in Tanga #shareASM"},
    ],
)
def test_what_differs_in_a_part_is_for_a_person_to_judge(server: StrictMastodon, told: dict[str, Any]) -> None:
    ours = account(server)
    wire = wire_of(ours)
    server.say(told.pop("text", wire["status"]["status"]), "desk", **told)
    found = ours.look_up(wire)
    assert isinstance(found, Found)
    assert not found.same


@pytest.mark.parametrize("language", [None, "sw-TZ"])
def test_a_server_may_forget_or_widen_the_language(server: StrictMastodon, language: str | None) -> None:
    ours = account(server)
    wire = wire_of(ours)
    server.say(wire["status"]["status"], "desk", language=language)
    found = ours.look_up(wire)
    assert isinstance(found, Found)
    assert found.same


def test_the_same_words_under_another_post_are_another_post(server: StrictMastodon) -> None:
    ours = account(server)
    first, second = posted(ours, wire_of(ours, "1")), posted(ours, wire_of(ours, "2"))
    below_first = ours.compose(frozen("yes"), Thread(first, first), [])
    below_second = ours.compose(frozen("yes"), Thread(second, first), [])
    posted(ours, below_first)
    assert ours.look_up(below_second) == Absent()
    assert isinstance(ours.look_up(below_first), Found)


def test_an_answer_whose_question_was_taken_away_is_for_a_person(server: StrictMastodon) -> None:
    ours = account(server)
    first = posted(ours, wire_of(ours, "1"))
    wire = ours.compose(frozen("2"), Thread(first, first), [])
    posted(ours, wire)
    server.posts[1].parent = None
    found = ours.look_up(wire)
    assert isinstance(found, Found)
    assert not found.same


@pytest.mark.parametrize("behind", [timedelta(minutes=-30), timedelta(minutes=30)])
def test_a_server_whose_clock_is_wrong_does_not_hide_the_post(server: StrictMastodon, behind: timedelta) -> None:
    server.ahead = -behind
    ours = account(server)
    wire = wire_of(ours)
    posted(ours, wire)
    assert isinstance(ours.look_up(wire), Found)


@pytest.mark.parametrize(
    ("where", "fault"),
    [
        *(("verify_credentials", fault) for fault in ("drop", "500", "html", "cut", "silence", "elsewhere", "limit")),
        *(("accounts/10", fault) for fault in ("drop", "500", "html", "cut", "drip", "nonsense", "elsewhere", "limit")),
    ],
)
def test_a_look_that_fails_proves_nothing(server: StrictMastodon, fault: Any, where: str) -> None:
    ours = account(server)
    wire = wire_of(ours)
    server.say("Long ago", "desk", made=server.now() - HOUR)
    server.fault(fault, where.replace("10", str(server.account_json("desk")["id"])))
    assert isinstance(ours.look_up(wire), Unclear)


# ── Pictures ─────────────────────────────────────────────────────────────────────────────────────────────────────────

PICTURE = Media("pit.png", "A pit, and a wömán", "d" * 64, "image/png", 3, 40, 30, "0.1,-0.4")


def test_a_picture_goes_up_with_its_words_and_its_focus_and_is_waited_for(server: StrictMastodon) -> None:
    server.media_rounds = 3
    ours = account(server)
    ready = ours.prepare(PICTURE, b"png")
    assert server.requests[1:] == ["POST /api/v2/media", *[f"GET /api/v1/media/{ready['id']}"] * 3]
    posted(ours, ours.compose(frozen(media=(PICTURE,)), None, [ready]))
    (picture,) = server.posts[0].media
    assert (picture["description"], picture["focus"]) == ("A pit, and a wömán", "0.1,-0.4")


def test_a_picture_that_is_never_finished_is_the_servers_trouble(server: StrictMastodon) -> None:
    server.media_rounds = 10**6
    ours = MastodonAccount(setting(server.url), media_seconds=0.3, poll_seconds=0.05)
    with pytest.raises(Unreachable):
        ours.prepare(PICTURE, b"png")


@pytest.mark.parametrize(
    ("status", "error", "raised"),
    [
        (422, "Validation failed: File content type is invalid", Refused),
        (413, "too large", Refused),
        (401, "The access token is invalid", LoginNeeded),
        (404, "Not Found", Unreachable),
        (429, "Throttled", RateLimited),
        (503, "down", Unreachable),
        (200, "no id", Unreachable),
    ],
)
def test_an_upload_that_fails_says_whose_trouble_it_is(
    server: StrictMastodon, status: int, error: str, raised: type[NetworkError]
) -> None:
    server.reply(status, {"error": error}, "/media")
    with pytest.raises(raised):
        account(server).prepare(PICTURE, b"png")


def test_a_picture_above_the_servers_limit_is_refused_at_home(server: StrictMastodon) -> None:
    with pytest.raises(Refused, match="1,000,000"):
        account(server).prepare(PICTURE, b"x" * 1_000_001)
    assert server.requests == ["GET /api/v2/instance"]


def test_an_upload_belongs_to_one_post(server: StrictMastodon) -> None:
    ours = account(server)
    ready = ours.prepare(PICTURE, b"png")
    posted(ours, ours.compose(frozen(media=(PICTURE,)), None, [ready]))
    outcome = ours.send(ours.compose(frozen("again", media=(PICTURE,)), None, [ready]))
    assert isinstance(outcome, NotApplied)
    assert outcome.kind == "content"


# ── Taking away ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_post_is_deleted_by_its_address_too(server: StrictMastodon) -> None:
    ours = account(server)
    receipt = posted(ours, wire_of(ours))
    ours.delete(Receipt(remote_id=receipt.url))
    assert server.posts == []
    ours.delete(Receipt(remote_id=receipt.url))


def test_a_server_that_knows_no_deletion_is_not_believed(server: StrictMastodon) -> None:
    server.deletes = False
    ours = account(server)
    receipt = posted(ours, wire_of(ours))
    with pytest.raises(Refused, match="by hand"):
        ours.delete(receipt)
    server.fault("html", "DELETE")
    with pytest.raises(Unreachable):
        ours.delete(receipt)


# ── Listening ────────────────────────────────────────────────────────────────────────────────────────────────────────


def source(server: StrictMastodon, **changes: Any) -> MastodonSource:
    return MastodonSource(setting(server.url, **{"token": None, **changes}), call_seconds=1.5)


def query(*tags: str, since: timedelta = HOUR) -> Query:
    now = datetime.now(UTC)
    return Query("day", tags or (TAG,), now - since, now + HOUR)


def read(place: MastodonSource, cursor: str | None = None, asked: Query | None = None) -> list[Page]:
    return list(place.pages(asked or query(), cursor, live=False))


def seen_in(pages: Sequence[Page]) -> list[Seen]:
    return [seen for page in pages for seen in page.seen]


def ids_in(pages: Sequence[Page]) -> list[str]:
    return [seen.native_id for seen in seen_in(pages)]


def end_of(pages: Sequence[Page]) -> str | None:
    return next(page.cursor for page in reversed(pages) if page.cursor)


def fill(server: StrictMastodon, number: int, *, step: timedelta = timedelta(seconds=20)) -> list[Post]:
    begin = server.now() - number * step + step / 2
    return [server.say(f"{place} #{TAG}", made=begin + place * step) for place in range(number)]


@pytest.mark.parametrize("ids", ["numbers", "ulid", "long"])
def test_all_of_the_campaign_is_read_upward_once_and_nothing_before(server: StrictMastodon, ids: Ids) -> None:
    server.ids = ids
    posts = fill(server, 250)  # the campaign began an hour ago, 180 posts before now
    pages = read(source(server))
    assert ids_in(pages) == [post.uri for post in posts[70:]]
    assert all(len(page.seen) <= 40 for page in pages)
    newer = fill(server, 3, step=timedelta(seconds=1))
    assert ids_in(read(source(server), end_of(pages))) == [post.uri for post in newer]


def test_each_page_can_be_read_on_from(server: StrictMastodon) -> None:
    posts = fill(server, 130)
    for stop in range(4):
        with closing(source(server).pages(query(), None, live=False)) as pages:  # type: ignore[type-var]
            before = list(islice((page for page in pages if page.seen), stop))
        after = read(source(server), before[-1].cursor if before else None)
        assert ids_in([*before, *after]) == [post.uri for post in posts]


def test_a_page_from_which_rows_were_taken_does_not_end_the_walk(server: StrictMastodon) -> None:
    posts = fill(server, 20)
    cursor = end_of(read(source(server)))
    posts = fill(server, 150, step=timedelta(milliseconds=10))
    server.hidden = {post.id for post in posts[:7] + posts[30:105]}  # a whole page, and more
    shown = [post.uri for post in posts if post.id not in server.hidden]
    assert sorted(ids_in(read(source(server), cursor))) == sorted(shown)


def test_what_arrives_late_below_the_cursor_is_found_by_the_overlap(server: StrictMastodon) -> None:
    fill(server, 50)
    before = read(source(server))
    late = server.say(f"late #{TAG}", "kim@two.test", made=server.now() - timedelta(seconds=90))
    after = read(source(server), end_of(before))
    assert ids_in(after) == [late.uri]
    assert ids_in(read(source(server), end_of(after))) == []


@pytest.mark.parametrize("seed", range(4))
def test_whatever_comes_late_or_goes_is_told_once(server: StrictMastodon, seed: int) -> None:
    dice, clock = random.Random(seed), MovedClock()  # noqa: S311 - dice, not a secret
    server.ids = dice.choice(["numbers", "ulid", "long"])
    place = source(server, clock=clock)
    asked, cursor, pages, gone = query(), None, [], []
    posts: list[Post] = []
    for _ in range(25):
        server.ahead = clock.offset = clock.offset + timedelta(seconds=15)
        for _ in range(dice.choice([0, 1, 5, 90])):
            late = timedelta(seconds=dice.choice([0, 0, 0, 30, 60, 100]))
            posts.append(server.say(f"#{TAG}", made=server.now() - late))
        pages += read(place, cursor, asked)
        cursor = end_of(pages)
        is_young = bool(posts) and server.now() - posts[-1].created_at < timedelta(seconds=101)
        if is_young and dice.random() < 0.3 and posts[-1] in server.posts:
            server.remove(posts[-1])
            gone.append(posts[-1].uri)
    pages += read(place, cursor, asked)
    assert sorted(ids_in(pages)) == sorted(post.uri for post in posts)
    assert [one.native_id for page in pages for one in page.removed] == gone
    assert [hole for page in pages for hole in page.holes] == []


def test_the_cursor_stays_small(server: StrictMastodon) -> None:
    fill(server, 150)
    cursor = end_of(read(source(server))) or ""
    (trail,) = json.loads(cursor).values()
    assert 1 <= len(trail["known"]) <= 7  # two minutes of a post each 20 seconds


def test_an_unreadable_cursor_begins_again(server: StrictMastodon) -> None:
    posts = fill(server, 3)
    for cursor in ("", "12", "[1]", '{"a": {"known": [1]}}'):
        assert ids_in(read(source(server), cursor)) == [post.uri for post in posts]


def test_an_edit_is_shown_again_and_a_deletion_is_told(server: StrictMastodon) -> None:
    first, second, third = fill(server, 3)
    before = read(source(server))
    first.text, first.edited_at = f"changed #{TAG}", server.now()
    second.text, second.edited_at = "the hashtag is gone", server.now()
    server.remove(third)
    after = read(source(server), end_of(before))
    assert [(seen.native_id, seen.text, seen.tags) for seen in seen_in(after)] == [
        (first.uri, f"changed #{TAG}", (TAG.lower(),)),
        (second.uri, "the hashtag is gone", ()),
    ]
    assert seen_in(after)[0].edited_at == first.edited_at
    assert [one for page in after for one in page.removed] == [Removed("mastodon", third.uri)]
    again = read(source(server), end_of(after))
    assert (ids_in(again), [one for page in again for one in page.removed]) == ([], [])


def test_a_deletion_that_cannot_be_checked_is_not_told(server: StrictMastodon) -> None:
    (post,) = fill(server, 1)
    before = read(source(server))
    server.remove(post)
    server.fault("html", f"statuses/{post.id}")
    after = read(source(server), end_of(before))
    assert [one for page in after for one in page.removed] == []
    last = read(source(server), end_of(after))
    assert [one for page in last for one in page.removed] == [Removed("mastodon", post.uri)]


def test_hashtags_are_asked_for_together_only_where_that_is_heard(server: StrictMastodon) -> None:
    tags = ("shareASM", "#mining", "ASM", "gold", "#SHAREASM", "tin")
    posts = [server.say(f"#{tag}") for tag in ("mining", "tin", "Gold", "asm")]
    assert sorted(ids_in(read(source(server), None, query(*tags)))) == sorted(post.uri for post in posts)
    asked = [request for request in server.requests if "timelines" in request]
    assert len({request.partition("?")[0] for request in asked}) == 2
    server.joins_tags, server.source_url = False, "https://codeberg.org/superseriousbusiness/gotosocial"
    assert sorted(ids_in(read(source(server), None, query(*tags)))) == sorted(post.uri for post in posts)


def test_tags_are_folded_and_a_broken_one_is_what_the_network_makes_of_it() -> None:
    assert groups_of(["#shareASM", "SHAREASM", "A&SM", "12", "＃Ñandú"], at_once=2) == [
        ("shareasm", "a"),
        ("ñandú",),
    ]


def test_a_post_on_two_servers_is_one_post_with_two_views(server: StrictMastodon) -> None:
    with StrictMastodon("two.test", ids="ulid", html="gotosocial", tells_actor=False) as two:
        post = server.say(TEXT, "kim", counts=(7, 3, 2), language="fr")
        two.receive(post, server.domain, counts=(1, 0, 0))
        (here,), (there,) = seen_in(read(source(server))), seen_in(read(source(two)))
    assert here.native_id == there.native_id == post.uri
    assert here.author.native_id == there.author.native_id == "https://strict.test/users/kim"
    assert here.author.handle == there.author.handle == "kim@strict.test"
    assert here.text.split() == there.text.split()
    assert (here.counts, there.counts) == (Counts(7, 3, 2), Counts(1, 0, 0))
    assert here.counts_server != there.counts_server
    assert abs(here.posted_at - there.posted_at) < timedelta(seconds=1)
    assert here.language == there.language == "fr"


def test_a_row_holds_what_the_post_says(server: StrictMastodon) -> None:
    asked = {"bot": True, "indexable": False, "display_name": "Kim"}
    text = TEXT.replace("  ", " ")
    server.say(text, "kim@one.test", account=asked, media=[{"id": "1", "url": "u", "remote_url": "https://one.test/p"}])
    (seen,) = seen_in(read(source(server)))
    assert seen.text == text.replace("@kim@one.test", "@kim")
    assert (seen.links, seen.tags, seen.media) == ((LINK,), ("shareasm", "tanzanía"), ("https://one.test/p",))
    author = seen.author
    assert (author.name, author.bot, author.may_be_named, author.followers) == ("Kim", True, False, 12)
    assert json.loads(seen.raw)["uri"] == seen.native_id


@pytest.mark.parametrize(
    "asked", [{"noindex": True}, {"note": "<p>I like #<span>nobot</span></p>"}, {"indexable": False}]
)
def test_who_asks_not_to_be_indexed_is_not_named(server: StrictMastodon, asked: dict[str, Any]) -> None:
    server.say(f"#{TAG}", account=asked)
    (seen,) = seen_in(read(source(server)))
    assert not seen.author.may_be_named


@pytest.mark.parametrize("visibility", ["unlisted", "private", "direct"])
def test_only_public_posts_are_seen(server: StrictMastodon, visibility: str) -> None:
    post = server.say(f"#{TAG}", "desk")
    before = read(source(server, token=TOKENS["desk"]))
    assert ids_in(before) == [post.uri]
    post.visibility, post.edited_at = visibility, server.now()  # no server does this; were it to, nothing leaks
    assert ids_in(read(source(server, token=TOKENS["desk"]), end_of(before))) == []


def test_an_answer_names_what_it_answers_though_that_has_no_hashtag(server: StrictMastodon) -> None:
    root = server.say("no hashtag")
    middle = server.say("nor here", parent=root.id)
    answer = server.say(f"but here #{TAG}", parent=middle.id)
    pages = read(source(server))
    (seen,) = seen_in(pages)
    assert (seen.native_id, seen.kind) == (answer.uri, "reply")
    assert (seen.of_id, seen.reply_to_id, seen.root_id) == (middle.uri, middle.uri, root.uri)
    context = {one.native_id: one.of_id for page in pages for one in page.context}
    assert context == {root.uri: "", middle.uri: root.uri}


@pytest.mark.parametrize("fault", ["html", "drop", "nonsense", "limit"])
def test_an_answer_whose_thread_nobody_tells_stays_an_answer(server: StrictMastodon, fault: Any) -> None:
    root = server.say("no hashtag")
    server.say(f"but here #{TAG}", parent=root.id)
    server.fault(fault, "/context")
    (seen,) = seen_in(read(source(server)))
    assert (seen.kind, seen.of_id, seen.root_id) == ("reply", "", "")


def test_a_quote_is_a_tie_and_a_reply_that_quotes_is_a_reply(server: StrictMastodon) -> None:
    quoted = server.say("worth reading")
    server.say(f"see #{TAG}", quote=quoted)
    server.say(f"and #{TAG}", quote=quoted, parent=quoted.id)
    pages = read(source(server))
    quote, reply = seen_in(pages)
    assert (quote.kind, quote.of_id, quote.quote_of_id) == ("quote", quoted.uri, quoted.uri)
    assert (reply.kind, reply.quote_of_id, reply.of_id) == ("reply", quoted.uri, quoted.uri)
    assert quoted.uri in {one.native_id for page in pages for one in page.context}


def test_a_bridged_post_keeps_its_own_address(server: StrictMastodon) -> None:
    uri = "https://bsky.brid.gy/convert/ap/at://did:plc:abc/app.bsky.feed.post/3kxyz"
    server.say(f"#{TAG}", "kim.bsky.social@bsky.brid.gy", uri=uri)
    (seen,) = seen_in(read(source(server)))
    assert (seen.native_id, bool(seen.url)) == (uri, True)


def test_a_token_that_cannot_be_one_is_said_before_anything_is_asked(server: StrictMastodon) -> None:
    with pytest.raises(LoginNeeded, match="SHAREASM_OURS_ACCESS_TOKEN"):
        read(source(server, token="töken"))  # noqa: S106 - none
    assert server.requests == []


@pytest.mark.parametrize("status", [401, 403, 422])
def test_a_server_that_shows_hashtags_to_members_alone_says_so(server: StrictMastodon, status: int) -> None:
    server.anonymous = status
    post = server.say(f"#{TAG}")
    with pytest.raises(LoginNeeded, match=r"only to its members.*SHAREASM_OURS_ACCESS_TOKEN"):
        read(source(server))
    assert ids_in(read(source(server, token=TOKENS["desk"]))) == [post.uri]
    server.revoked.add(TOKENS["desk"])
    with pytest.raises((LoginNeeded, Refused)):
        read(source(server, token=TOKENS["desk"]))


@pytest.mark.parametrize("fault", ["500", "html", "cut", "drop", "drop before", "silence", "drip", "elsewhere"])
def test_a_server_that_cannot_be_read_is_unreachable(server: StrictMastodon, fault: Any) -> None:
    server.say(f"{'long ' * 90} #{TAG}")
    server.fault(fault, "timelines")
    with pytest.raises(Unreachable):
        read(source(server))


def test_a_server_that_is_down_is_unreachable() -> None:
    with pytest.raises(Unreachable, match="cannot be reached"):
        read(MastodonSource(setting("http://127.0.0.1:1", None)))


def test_a_post_that_cannot_be_read_is_a_hole_and_the_others_are_seen(server: StrictMastodon) -> None:
    posts = fill(server, 3, step=3 * MINUTE)
    posts[1].uri = ""
    pages = read(source(server))
    assert ids_in(pages) == [posts[0].uri, posts[2].uri]
    assert len([hole for page in pages for hole in page.holes]) == 1
    server.fault("nonsense", "timelines")
    assert [hole for page in read(source(server), end_of(pages)) for hole in page.holes]


@pytest.mark.parametrize("known", [False, True])
def test_a_server_that_does_not_page_leaves_a_hole(server: StrictMastodon, known: bool) -> None:
    fill(server, 10)
    cursor = end_of(read(source(server))) if known else None
    server.pages_by_id = False
    posts = fill(server, 100, step=timedelta(milliseconds=1))
    pages = read(source(server), cursor)
    assert set(ids_in(pages)) == {post.uri for post in posts[-40:]}
    assert [hole for page in pages for hole in page.holes]


def test_a_server_that_asks_us_to_wait_is_not_asked_before(server: StrictMastodon) -> None:
    clock = MovedClock()
    place = source(server, clock=clock)
    server.say(f"#{TAG}")
    server.fault("limit", "timelines")
    with pytest.raises(RateLimited) as limited:
        read(place)
    assert limited.value.until is not None
    server.forget_requests()
    with closing(place.pages(query(), None, live=True)) as pages:  # type: ignore[type-var]
        assert next(pages) == Page()
        assert server.requests == []
        clock.offset = timedelta(minutes=6)
        assert any(page.seen for page in islice(pages, 5))


def test_the_paged_bucket_of_the_server_is_respected(server: StrictMastodon) -> None:
    fill(server, 170)
    place = MastodonSource(setting(server.url, None), paged_requests=3)
    with closing(place.pages(query(), None, live=True)) as pages:  # type: ignore[type-var]
        while next(pages) != Page() or len(server.requests) < 5:
            pass
        assert next(pages) == Page()
    assert len([request for request in server.requests if "_id=" in request]) == 3
    server.paged_limit = 0
    with pytest.raises(RateLimited):
        read(source(server))


def test_live_a_silent_server_does_not_keep_the_caller(server: StrictMastodon) -> None:
    server.fault("silence", "timelines")
    with closing(source(server).pages(query(), None, live=True)) as pages:  # type: ignore[type-var]
        assert next(pages) == Page()


def test_live_what_comes_is_seen_and_how_far_is_said(server: StrictMastodon) -> None:
    place = source(server, options={"poll_seconds": 0.05})
    begun = datetime.now(UTC)
    with closing(place.pages(query(), None, live=True)) as pages:  # type: ignore[type-var]
        assert next(page for page in pages if page.complete_until)
        post = server.say(f"#{TAG}")
        assert ids_in([next(page for page in pages if page.seen)]) == [post.uri]
        until = next(page.complete_until for page in pages if page.complete_until)
    assert begun - MINUTE < until <= datetime.now(UTC)


def test_a_server_without_an_instance_page_is_read_all_the_same(server: StrictMastodon) -> None:
    server.tells_instance = False
    posts = [server.say(f"#{tag}") for tag in ("shareASM", "mining")]
    assert ids_in(read(source(server), None, query("shareASM", "mining"))) == [post.uri for post in posts]


# ── HTML ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>a</p><p>b<br>c<br/>d</p>", "a\n\nb\nc\nd"),
        ("a &amp; b &lt;c&gt;&nbsp;d", "a & b <c>\u00a0d"),
        ('<p class="quote-inline">RE: <a href="https://q.test">q</a></p><p>mine</p>', "mine"),
        ("<ul><li>one</li><li>two</li></ul>", "• one\n• two"),
        ('x <img alt=":ok:" src="y"> <script>alert(1)</script><style>p{}</style>z', "x :ok: z"),
        ('<a href="https://a.test/long/way">a.test/lo…</a>', "https://a.test/long/way"),
        ('<a href="https://a.test/x">the report</a>', "the report"),
        ("1 < 2 <3 <", "1 < 2 <3 <"),
        ("<!-- no --><p>yes", "yes"),
        ("", ""),
    ],
)
def test_html_becomes_the_words_of_its_author(html: str, text: str) -> None:
    assert words_of(html).text == text


@pytest.mark.parametrize("evil", ["<a ", "<", "<!--", "&", "<a href='", "<p>", " ", "\n ", "<a b=\"'", "</", "<li"])
def test_no_html_takes_long(evil: str) -> None:
    words_of(evil * 60_000)  # the standard library's parser takes minutes over some of these


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(
        ["public", "2026-06-25T10:00:00Z", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "https://[", "<a "]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=8),
    max_leaves=15,
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(told=st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=20))
def test_no_post_can_stop_the_desk(told: dict[str, Any]) -> None:
    view = View("strict.test", "strict.test", datetime.now(UTC))
    assert seen_post(told, view, None).network == "mastodon"
    is_mention(told)
    compare({"status": {"status": "x"}}, told, datetime(2020, 1, 1, tzinfo=UTC))
    assert instance_of(told, datetime.now(UTC)).limits.text > 0
    Walk(Trail(), datetime.now(UTC)).take([told])


def test_signs_that_are_none_do_not_hide_the_other_posts(server: StrictMastodon) -> None:
    server.reply(
        200, '[{"id": "2", "uri": "b", "visibility": "public", "content": "\\ud800x", "n": 1e999}]', "timelines"
    )
    (seen,) = seen_in(read(source(server)))
    assert (seen.native_id, seen.text) == ("b", "?x")


# ── Another author's server ──────────────────────────────────────────────────────────────────────────────────────────


def test_on_two_mock_servers_each_post_is_seen_where_it_is(mastodons: tuple[MockServer, MockServer]) -> None:
    for place, server in enumerate(mastodons):
        ours = MastodonAccount(setting(server.base_url, TOKENS["desk"]))
        assert ours.identity().handle == f"desk@{('one', 'two')[place]}.test"
        assert ours.keeps_key is not None
        wires = [wire_of(ours, f"{number} on {place} #{TAG} {TEXT}") for number in range(45 - 40 * place)]
        receipts = [posted(ours, wire) for wire in wires]
        assert [seen.native_id for seen in seen_in(read(MastodonSource(setting(server.base_url, None))))] == [
            receipt.remote_id for receipt in receipts
        ]
        found = ours.look_up(wires[0])
        assert isinstance(found, Found)
        assert (found.same, found.receipt.remote_id) == (True, receipts[0].remote_id)


def test_a_mock_server_with_faults_makes_no_second_post(mastodons: tuple[MockServer, MockServer]) -> None:
    server = mastodons[0]
    ours = MastodonAccount(setting(server.base_url, TOKENS["desk"]))
    wire = wire_of(ours)
    faults: list[tuple[dict[str, Any], type]] = [
        ({"status": 503}, Unknown),
        ({"type": "malformed"}, Unknown),
        ({"type": "ratelimit"}, NotApplied),
    ]
    for fault, expected in faults:
        server.fault(path="/api/v1/statuses", methods=["POST"], count=1, **fault)
        assert isinstance(ours.send(wire), expected)
    receipt = posted(ours, wire)
    assert ids_in(read(MastodonSource(setting(server.base_url, None)))) == [receipt.remote_id]
