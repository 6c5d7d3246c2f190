"""Bluesky, against a real PDS, its firehose and a Jetstream: once each, found again, and nothing missed in silence.

The package `atproto`, which the desk itself does without, is the witness: it finds and counts in its own way.
"""

import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any

import libipld
import msgspec
import pytest
from atproto import Client
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

from shareasm import text
from shareasm.errors import ConfigError, LoginNeeded, RateLimited, Refused, Unreachable
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
    WorldClock,
)
from shareasm.networks import Setting, bluesky
from shareasm.networks.bluesky.account import BlueskyAccount
from shareasm.networks.bluesky.record import cid_of
from shareasm.networks.bluesky.seen import seen_post, seen_repost
from shareasm.networks.bluesky.source import BlueskySource
from shareasm.networks.bluesky.wires import Event
from tests.servers.bluesky import POST, Account, Pds, post_record
from tests.servers.jetstream import Jetstream
from tests.servers.proxy import Proxy

HOUR = timedelta(hours=1)
OF_POSTS = ["text", "tags", "facets", "features", "tag", "uri", "did", "langs", "labels", "values", "val", "createdAt"]
OF_TIES = [
    "embed",
    "record",
    "images",
    "image",
    "ref",
    "$link",
    "external",
    "media",
    "reply",
    "parent",
    "root",
    "subject",
]
NAMES = st.sampled_from([*OF_POSTS, *OF_TIES])
SIGNS = "Café ☕ 👩‍👩‍👧 日本 #shareASM, see https://iied.org/asm?a=1. Fin #日本 ❤️#été"
NUMBERS = count(time.time_ns() // 1000)


def a_key() -> str:
    """A record key as the desk makes them: a TID that nobody used yet."""
    value = next(NUMBERS) << 10
    return "".join("234567abcdefghijklmnopqrstuvwxyz"[(value >> shift) & 31] for shift in range(60, -1, -5))


def frozen(words: str = "A mine in Tanga #shareASM", **changes: Any) -> Frozen:
    now = datetime.now(UTC).replace(microsecond=123_456)
    return Frozen("bluesky", "org-bluesky", words, "en", 1, 1, now, a_key(), **changes)


def setting(server: str, account: Account | None = None, kept: dict[str, str] | None = None, **changes: Any) -> Setting:
    kept = {} if kept is None else kept
    return Setting(
        network="bluesky",
        name="org-bluesky",
        server=server,
        handle=account.handle if account else "",
        folder=Path(),
        clock=WorldClock(),
        secret=lambda field: {"PASSWORD": account.password if account else ""}[field],
        save=kept.__setitem__,
        load=kept.get,
        **changes,
    )


def source(server: str, protocol: str = "firehose", **options: Any) -> BlueskySource:
    return BlueskySource(setting(server, protocol=protocol), **options)


def query(*hashtags: str) -> Query:
    now = datetime.now(UTC)
    return Query("day", hashtags or ("#shareASM",), now - HOUR, now + HOUR)


def drain(source: BlueskySource, cursor: str | None = None, *, hashtags: tuple[str, ...] = ()) -> list[Page]:
    with closing(source.pages(query(*hashtags), cursor, live=False)) as pages:  # type: ignore[type-var]
        return list(pages)


def end_of(pages: list[Page], before: str | None = None) -> str | None:
    return next((page.cursor for page in reversed(pages) if page.cursor), before)


def seen_in(pages: list[Page]) -> list[Seen]:
    return [seen for page in pages for seen in page.seen]


@pytest.fixture
def us(pds: Pds) -> Account:
    return pds.create_account("us")


@pytest.fixture
def desk(pds: Pds, us: Account) -> BlueskyAccount:
    account = BlueskyAccount(setting(pds.url, us))
    account.identity()
    return account


@pytest.fixture
def proxy(pds: Pds) -> Iterator[Proxy]:
    with Proxy(pds.url) as proxy:
        yield proxy


@pytest.fixture
def here(pds: Pds) -> str:
    """The cursor of this moment: the PDS is shared, and other tests have posted.

    A PDS repeats, whatever the cursor, what it was just about to tell its listeners; the store takes it once. A test
    that counts events begins when that is over.
    """
    cursor = end_of(drain(source(pds.url)), "0") or "0"
    while seen_in(drain(source(pds.url), cursor)):
        pass
    return cursor


def picture(width: int = 40, height: int = 30, *, form: str = "PNG", noisy: bool = False, **options: Any) -> bytes:
    image = (
        Image.effect_noise((width, height), 200).convert("RGB") if noisy else Image.new("RGB", (width, height), "red")
    )
    out = BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def media(content: bytes, alt: str = "A woman sorting ore") -> Media:
    return Media("ore.jpg", alt, "digest", "image/jpeg", len(content), 40, 30)


# ── Once ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_same_wire_thrice_is_one_post_and_one_event(pds: Pds, us: Account, desk: BlueskyAccount, here: str) -> None:
    wire = desk.compose(frozen(), None, [])
    outcomes = [desk.send(wire) for _ in range(3)]
    assert len(set(outcomes)) == 1
    assert isinstance(outcomes[0], Sent)
    receipt = outcomes[0].receipt
    assert receipt.url == f"https://bsky.app/profile/{us.did}/post/{wire['rkey']}"
    assert [(found["uri"], found["cid"]) for found in pds.records(us.did)] == [(receipt.remote_id, receipt.cid)]
    assert [seen.native_id for seen in seen_in(drain(source(pds.url), here))] == [receipt.remote_id]


def test_another_text_under_the_same_key_is_unknown_and_found_to_be_another(
    pds: Pds, us: Account, desk: BlueskyAccount
) -> None:
    first = frozen()
    desk.send(desk.compose(first, None, []))
    wire = desk.compose(replace(first, text="Something else"), None, [])
    assert isinstance(desk.send(wire), Unknown)
    found = desk.look_up(wire)
    assert isinstance(found, Found)
    assert not found.same
    assert [one["value"]["text"] for one in pds.records(us.did)] == [first.text]


def test_what_was_not_sent_is_absent_and_what_was_sent_is_found(desk: BlueskyAccount) -> None:
    wire = desk.compose(frozen(), None, [])
    assert desk.look_up(wire) == Absent()
    sent = desk.send(wire)
    assert isinstance(sent, Sent)
    assert desk.look_up(wire) == Found(sent.receipt, same=True)


def test_a_lost_answer_is_unknown_found_and_never_doubled(pds: Pds, us: Account, proxy: Proxy, here: str) -> None:
    desk = BlueskyAccount(setting(proxy.url, us))
    desk.identity()
    wire = desk.compose(frozen(), None, [])
    proxy.swallow(containing="putRecord")
    assert isinstance(desk.send(wire), Unknown)
    assert len(proxy.swallowed) == 1
    found = desk.look_up(wire)
    assert isinstance(found, Found)
    assert found.same
    assert desk.send(wire) == Sent(found.receipt)
    assert len(pds.records(us.did)) == 1
    assert len(seen_in(drain(source(pds.url), here))) == 1


def test_a_post_is_deleted_once_and_again(pds: Pds, us: Account, desk: BlueskyAccount, here: str) -> None:
    sent = desk.send(desk.compose(frozen(), None, []))
    assert isinstance(sent, Sent)
    desk.delete(sent.receipt)
    desk.delete(sent.receipt)
    assert pds.records(us.did) == []
    removed = [one for page in drain(source(pds.url), here) for one in page.removed]
    assert removed == [Removed("bluesky", sent.receipt.remote_id)]


# ── What a post says ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_facets_stand_where_the_witness_sees_the_same_bytes(pds: Pds, us: Account, desk: BlueskyAccount) -> None:
    assert isinstance(desk.send(desk.compose(frozen(SIGNS), None, [])), Sent)
    record = pds.records(us.did)[0]["value"]
    marked = {
        record["text"].encode()[facet["index"]["byteStart"] : facet["index"]["byteEnd"]].decode(): facet["features"][0]
        for facet in record["facets"]
    }
    assert {words: feature.get("tag") or feature.get("uri") for words, feature in marked.items()} == {
        "#shareASM": "shareASM",
        "https://iied.org/asm?a=1": "https://iied.org/asm?a=1",
        "#日本": "日本",
        "#été": "été",
    }
    witness = Client(base_url=pds.url).detect_facets(SIGNS)
    theirs = {(one.index.byte_start, one.index.byte_end) for one in witness}
    assert theirs <= {(one["index"]["byteStart"], one["index"]["byteEnd"]) for one in record["facets"]}


def test_a_hashtag_over_64_signs_does_not_sink_the_post(pds: Pds, us: Account, desk: BlueskyAccount) -> None:
    assert isinstance(desk.send(desk.compose(frozen(f"#shareASM #{'x' * 65}"), None, [])), Sent)
    assert len(pds.records(us.did)[0]["value"]["facets"]) == 1


def test_time_language_and_card_arrive_as_they_were_frozen(pds: Pds, us: Account, desk: BlueskyAccount) -> None:
    words = replace(frozen(link="https://www.iied.org/asm"), language="sw")
    desk.send(desk.compose(words, None, []))
    record = pds.records(us.did)[0]["value"]
    assert record["createdAt"] == words.created_at.strftime("%Y-%m-%dT%H:%M:%S.123Z")
    assert record["langs"] == ["sw"]
    assert record["embed"]["external"] == {
        "uri": "https://www.iied.org/asm",
        "title": "www.iied.org",
        "description": "",
    }


def test_pictures_arrive_with_alt_text_and_shape_and_the_cid_is_ours(
    pds: Pds, us: Account, desk: BlueskyAccount
) -> None:
    content = picture(40, 30)
    pictures = (media(content, "Ore é"), media(content, "A pit"))
    wire = desk.compose(frozen(media=pictures), None, [desk.prepare(one, content) for one in pictures])
    sent = desk.send(wire)
    assert isinstance(sent, Sent)
    assert sent.receipt.cid == cid_of(wire["record"])
    images = pds.records(us.did)[0]["value"]["embed"]["images"]
    assert [image["alt"] for image in images] == ["Ore é", "A pit"]
    assert [image["aspectRatio"] for image in images] == [{"width": 40, "height": 30}] * 2
    assert images[0]["image"]["mimeType"] == "image/png"


def test_a_large_picture_is_made_to_fit_and_keeps_its_shape(desk: BlueskyAccount) -> None:
    content = picture(2400, 1200, noisy=True)
    assert len(content) > bluesky.LIMITS.picture_bytes
    ready = desk.prepare(media(content), content)
    assert isinstance(ready["blob"], dict)
    assert ready["blob"]["size"] <= bluesky.LIMITS.picture_bytes
    assert isinstance(ready["width"], int)
    assert ready["width"] == 2 * ready["height"]  # type: ignore[operator]


def test_a_picture_does_not_tell_where_it_was_taken(pds: Pds, us: Account, desk: BlueskyAccount) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    exif.get_ifd(0x8825)[1] = "S"  # GPS
    content = picture(40, 30, form="JPEG", exif=exif)
    ready = desk.prepare(media(content), content)
    assert (ready["width"], ready["height"]) == (30, 40)
    desk.send(desk.compose(frozen(media=(media(content),)), None, [ready]))
    cid = pds.records(us.did)[0]["value"]["embed"]["images"][0]["image"]["ref"]["$link"]
    blob = pds.http.get("com.atproto.sync.getBlob", params={"did": us.did, "cid": cid}).raise_for_status().content
    assert not Image.open(BytesIO(blob)).getexif()


@pytest.mark.parametrize("content", [b"no picture", picture()[:60], b""])
def test_what_is_no_picture_is_refused_in_words(desk: BlueskyAccount, content: bytes) -> None:
    with pytest.raises(Refused, match="picture"):
        desk.prepare(media(content), content)


def test_a_thread_names_its_parent_and_its_root(pds: Pds, us: Account, desk: BlueskyAccount) -> None:
    receipts: list[Receipt] = []
    for part in range(3):
        thread = Thread(parent=receipts[-1], root=receipts[0]) if receipts else None
        sent = desk.send(desk.compose(frozen(f"Part {part}"), thread, []))
        assert isinstance(sent, Sent)
        receipts.append(sent.receipt)
    last = pds.records(us.did)[0]["value"]["reply"]
    assert last["parent"] == {"uri": receipts[1].remote_id, "cid": receipts[1].cid}
    assert last["root"] == {"uri": receipts[0].remote_id, "cid": receipts[0].cid}


def test_a_link_beside_pictures_is_refused_rather_than_lost(desk: BlueskyAccount) -> None:
    content = picture()
    words = frozen(media=(media(content),), link="https://iied.org")
    with pytest.raises(ValueError, match="would be lost"):
        desk.compose(words, None, [desk.prepare(media(content), content)])


def test_an_answer_to_a_post_without_its_cid_is_refused(desk: BlueskyAccount) -> None:
    receipt = Receipt(f"at://did:plc:x/{POST}/3k")
    with pytest.raises(ValueError, match="CID"):
        desk.compose(frozen(), Thread(receipt, receipt), [])


def test_the_null_is_really_sent(pds: Pds, desk: BlueskyAccount) -> None:
    wire = desk.compose(frozen(), None, [])
    assert wire["swapRecord"] is None
    assert b'"swapRecord":null' in msgspec.json.encode(wire)


# ── Logins ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def calls(proxy: Proxy, method: str) -> int:
    return sum(method in line for line in proxy.requests)


def test_many_runs_need_one_login(us: Account, proxy: Proxy) -> None:
    kept: dict[str, str] = {}
    for _ in range(3):
        desk = BlueskyAccount(setting(proxy.url, us, kept))
        assert isinstance(desk.send(desk.compose(frozen(), None, [])) if kept else desk.identity(), object)
    assert calls(proxy, "createSession") == 1
    assert us.password not in str(kept)


def test_a_token_that_is_over_is_renewed_and_the_post_made_once(pds: Pds, us: Account, proxy: Proxy) -> None:
    kept: dict[str, str] = {}
    desk = BlueskyAccount(setting(proxy.url, us, kept))
    desk.identity()
    before = msgspec.json.decode(kept["session"])
    kept["session"] = msgspec.json.encode(before | {"access": before["access"][:-4] + "AAAA"}).decode()
    assert isinstance(desk.send(desk.compose(frozen(), None, [])), Sent)
    assert (calls(proxy, "createSession"), calls(proxy, "refreshSession"), calls(proxy, "putRecord")) == (1, 1, 2)
    assert len(pds.records(us.did)) == 1
    after = msgspec.json.decode(kept["session"])
    assert after["refresh"] != before["refresh"]


def test_a_dead_refresh_token_leads_to_one_new_login(pds: Pds, us: Account, proxy: Proxy) -> None:
    kept: dict[str, str] = {}
    desk = BlueskyAccount(setting(proxy.url, us, kept))
    desk.identity()
    before = msgspec.json.decode(kept["session"])
    kept["session"] = msgspec.json.encode(before | {"access": "over", "refresh": "dead"}).decode()
    assert isinstance(desk.send(desk.compose(frozen(), None, [])), Sent)
    assert (calls(proxy, "createSession"), calls(proxy, "refreshSession")) == (2, 1)
    assert len(pds.records(us.did)) == 1


def test_the_session_of_another_account_is_not_used(pds: Pds, us: Account) -> None:
    kept: dict[str, str] = {}
    BlueskyAccount(setting(pds.url, us, kept)).identity()
    other = pds.create_account("other")
    assert BlueskyAccount(setting(pds.url, other, kept)).identity().native_id == other.did


def test_a_wrong_password_is_said_in_words_and_names_the_variable(pds: Pds, us: Account) -> None:
    desk = BlueskyAccount(setting(pds.url, us._replace(password="wrong")))  # noqa: S106 it is
    with pytest.raises(LoginNeeded) as caught:
        desk.identity()
    assert us.handle in str(caught.value)
    assert "SHAREASM_ORG_BLUESKY_PASSWORD" in str(caught.value)
    assert "wrong" not in str(caught.value)


def test_who_we_are_must_be_known_before_a_post_is_composed(pds: Pds, us: Account) -> None:
    with pytest.raises(ConfigError, match="account test org-bluesky"):
        BlueskyAccount(setting(pds.url, us)).compose(frozen(), None, [])


def test_identity_tells_handle_did_and_server(pds: Pds, us: Account) -> None:
    identity = BlueskyAccount(setting(pds.url, us)).identity()
    assert (identity.handle, identity.native_id, identity.server) == (us.handle, us.did, pds.url)


def test_an_account_is_known_by_its_did_too(pds: Pds, us: Account) -> None:
    desk = BlueskyAccount(setting(pds.url, us._replace(handle=us.did)))
    assert isinstance(desk.send(desk.compose(frozen(), None, [])), Sent)


# ── When the server or the line fails ────────────────────────────────────────────────────────────────────────────────


def logged_in(url: str, **options: Any) -> BlueskyAccount:
    """Return an account that has a session on this server, whatever stands there."""
    session = {"login": "did:plc:us", "server": url, "did": "did:plc:us", "handle": "", "access": "a", "refresh": "r"}
    who = Account("did:plc:us", "secret", "did:plc:us")
    return BlueskyAccount(setting(url, who, {"session": msgspec.json.encode(session).decode()}), **options)


def test_a_server_that_is_down_is_said_in_words_and_the_post_waits(proxy: Proxy, us: Account) -> None:
    proxy.refuse()
    desk = BlueskyAccount(setting(proxy.url, us))
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:\d+ cannot be reached \(connection refused\)"):
        desk.identity()
    wire = logged_in(proxy.url).compose(frozen(), None, [])
    outcome = logged_in(proxy.url).send(wire)
    assert isinstance(outcome, NotApplied)
    assert outcome.kind == "later"
    assert isinstance(desk.look_up(wire), Unclear)


def test_a_name_that_does_not_exist_is_not_applied() -> None:
    desk = logged_in("https://nowhere.invalid")
    outcome = desk.send(desk.compose(frozen(), None, []))
    assert isinstance(outcome, NotApplied)
    assert outcome.kind == "later"


@contextmanager
def answering(
    status: int, body: bytes = b"{}", headers: Mapping[str, str] | None = None
) -> Iterator[tuple[str, list[str]]]:
    """A server that gives everybody the same answer, and the list of what it was asked."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked.append(self.path)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def error(name: str) -> bytes:
    return msgspec.json.encode({"error": name, "message": f"because of {name}"})


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, error("InvalidRequest"), "content"),
        (400, error("AccountTakedown"), "account"),
        (401, error("AuthMissing"), "account"),
        (402, b"", "money"),
        (403, error("Forbidden"), "content"),
        (403, error("AccountTakedown"), "account"),
        (404, b"<html>", "content"),
        (413, b"", "content"),
        (422, b"", "content"),
        (429, b"", "later"),
        (500, error("InternalServerError"), None),
        (502, b"<html>", None),
        (409, b"", None),
        (302, b"", None),
        (200, b"", None),
        (200, b'{"uri": "at://', None),
        (200, b'{"cid": "b"}', None),
        (200, b'{"cid": "b", "uri": "at://did:plc:them/app.bsky.feed.post/3k"}', None),
        (200, b'{"cid": "b", "uri": "at://"}', None),
    ],
)
def test_every_answer_has_its_class(status: int, body: bytes, kind: str | None) -> None:
    with answering(status, body, {"Location": "http://127.0.0.1:9/"}) as (url, _):
        desk = logged_in(url)
        outcome = desk.send(desk.compose(frozen(), None, []))
    assert (outcome.kind if isinstance(outcome, NotApplied) else None) == kind
    assert isinstance(outcome, NotApplied | Unknown)


@pytest.mark.parametrize("status", [302, 400, 404, 500])
def test_no_answer_makes_us_ask_twice_but_a_refused_token(status: int) -> None:
    with answering(status, headers={"Location": "/elsewhere"}) as (url, asked):
        desk = logged_in(url)
        desk.send(desk.compose(frozen(), None, []))
    assert asked == ["/xrpc/com.atproto.repo.putRecord"]


def test_a_full_budget_says_until_when() -> None:
    with answering(429, headers={"Retry-After": "60", "RateLimit-Reset": "1"}) as (url, _):
        desk = logged_in(url)
        before = datetime.now(UTC)
        outcome = desk.send(desk.compose(frozen(), None, []))
        with pytest.raises(RateLimited) as caught:
            desk.identity()
    assert isinstance(outcome, NotApplied)
    assert outcome.until is not None
    assert outcome.until >= before + timedelta(seconds=60)
    assert caught.value.until is not None


@contextmanager
def dripping(first: bytes, drop: bytes) -> Iterator[tuple[str, threading.Event]]:
    """A server that answers one byte at a time and never ends; the event is set when its client has hung up."""
    hung_up, listener = threading.Event(), socket.create_server(("127.0.0.1", 0))

    def drip() -> None:
        client, _ = listener.accept()
        with client:
            client.recv(65536)
            try:
                client.sendall(first)
                while True:
                    client.sendall(drop)
                    time.sleep(0.02)
            except OSError:
                hung_up.set()

    with listener:
        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", hung_up
        thread.join(10)


@pytest.mark.parametrize(
    ("first", "drop"),
    [
        (b"", b"H"),
        (b"HTTP/1.1 200 OK\r\n", b"A"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n{", b" "),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    ],
    ids=["status line", "headers", "body", "chunks"],
)
def test_a_server_that_drips_for_ever_is_left_at_the_deadline(first: bytes, drop: bytes) -> None:
    with dripping(first, drop) as (url, hung_up):
        desk = logged_in(url, call_seconds=0.4)
        outcome = desk.send(desk.compose(frozen(), None, []))
        assert isinstance(outcome, Unknown)
        assert hung_up.wait(10)


def test_a_black_hole_is_left_at_the_deadline(proxy: Proxy) -> None:
    proxy.fall_silent()
    desk = logged_in(proxy.url, call_seconds=0.4)
    assert isinstance(desk.send(desk.compose(frozen(), None, [])), Unknown)
    assert isinstance(desk.look_up(desk.compose(frozen(), None, [])), Unclear)


def test_a_lost_answer_to_the_login_means_that_no_post_was_on_its_way(pds: Pds, us: Account, proxy: Proxy) -> None:
    wire = logged_in(proxy.url).compose(frozen(), None, [])
    proxy.swallow(containing="createSession")
    outcome = BlueskyAccount(setting(proxy.url, us)).send(wire)
    assert isinstance(outcome, NotApplied)
    assert outcome.kind == "later"
    assert calls(proxy, "putRecord") == 0


def test_an_address_that_is_none_is_said_at_once() -> None:
    with pytest.raises(ConfigError, match="no address"):
        BlueskyAccount(setting("ftp://bsky.social"))


# ── Listening ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(params=["firehose", "jetstream"])
def wire_of(request: pytest.FixtureRequest, pds: Pds) -> tuple[str, str]:
    """Address and protocol of either stream."""
    if request.param == "firehose":
        return pds.url, "firehose"
    return request.getfixturevalue("jetstream").url, "jetstream"


Follow = Callable[[Callable[[list[Page]], bool]], list[Page]]


def follow(source: BlueskySource, cursor: str | None, is_enough: Callable[[list[Page]], bool]) -> list[Page]:
    """Listen live until it is enough, and fail when it never is."""
    pages: list[Page] = []
    with closing(source.pages(query(), cursor, live=True)) as stream:  # type: ignore[type-var]
        for page in stream:
            pages.append(page)
            if is_enough(pages):
                return pages
            assert len(pages) < 60, "what was waited for never came"
    raise AssertionError("the stream ended")


def has_seen(uri: str, pages: list[Page]) -> bool:
    return uri in {seen.native_id for seen in seen_in(pages)}


def a_conversation(pds: Pds) -> tuple[list[Account], dict[str, str]]:
    """Three people under the hashtag, and what they did, by its URI."""
    people = [pds.create_account(name) for name in ("ana", "ben", "chi")]
    first = pds.create_record(people[0], "Hello #shareASM", langs=["sw"])
    subject = {"uri": first["uri"], "cid": first["cid"]}
    quote = {"$type": "app.bsky.embed.record", "record": subject}
    did = {
        first["uri"]: "original",
        pds.create_record(people[1], "#SHAREASM too")["uri"]: "original",
        pds.create_record(people[2], "without a sign", tags=["ShareAsm"])["uri"]: "original",
        pds.create_record(people[1], "me too", reply={"root": subject, "parent": subject})["uri"]: "reply",
        pds.create_record(people[2], "look", embed=quote)["uri"]: "quote",
    }
    body = {"repo": people[2].did, "collection": "app.bsky.feed.repost"}
    record = {"$type": "app.bsky.feed.repost", "subject": subject, "createdAt": datetime.now(UTC).isoformat()}
    did[pds.call("com.atproto.repo.createRecord", body | {"record": record}, people[2])["uri"]] = "repost"
    pds.create_record(people[0], "nothing of ours #shareASMarkdown")
    return people, did


def test_a_conversation_is_seen_with_its_kinds_and_ties(pds: Pds, wire_of: tuple[str, str]) -> None:
    _, did = a_conversation(pds)
    pages = follow(source(*wire_of), None, lambda pages: did.keys() <= {seen.native_id for seen in seen_in(pages)})
    seen = {one.native_id: one for one in seen_in(pages) if one.native_id in did}
    assert {uri: one.kind for uri, one in seen.items()} == did
    assert len([one for one in seen_in(pages) if one.native_id in did]) == len(did)
    assert not [one for one in seen_in(pages) if "#shareASMarkdown" in one.text]
    first = next(iter(did))
    ties = {one.kind: (one.of_id, one.reply_to_id, one.quote_of_id, one.root_id) for one in seen.values()}
    assert ties == {
        "original": ("", "", "", ""),
        "reply": (first, first, "", first),
        "quote": (first, "", first, ""),
        "repost": (first, "", "", ""),
    }
    assert all(text.hashtags(one.text) or one.tags for one in seen.values() if one.kind == "original")


def test_a_post_comes_whole_with_its_author_and_its_record(pds: Pds, wire_of: tuple[str, str]) -> None:
    people, did = a_conversation(pds)
    first = next(iter(did))
    pages = follow(source(*wire_of), None, lambda pages: first in {seen.native_id for seen in seen_in(pages)})
    seen = next(one for one in seen_in(pages) if one.native_id == first)
    record = next(one for one in pds.records(people[0].did) if one["uri"] == first)
    assert (seen.author.native_id, seen.author.handle) == (people[0].did, people[0].handle)
    assert (seen.text, seen.language, seen.tags) == ("Hello #shareASM", "sw", ("shareASM",))
    assert seen.url == f"https://bsky.app/profile/{people[0].did}/post/{first.rpartition('/')[2]}"
    assert abs(seen.posted_at - datetime.fromisoformat(record["value"]["createdAt"])) < timedelta(seconds=1)
    raw = msgspec.json.decode(seen.raw)
    assert raw["record"] == record["value"]
    assert raw["cid"] == record["cid"]


def test_an_edit_is_seen_also_when_it_takes_the_hashtag_away(pds: Pds, here: str) -> None:
    ana, key = pds.create_account("ana"), a_key()
    pds.put_record(ana, key, post_record("with #shareASM"))
    pds.put_record(ana, key, post_record("without"))
    first, second = seen_in(drain(source(pds.url), here))
    assert first.native_id == second.native_id
    assert first.edited_at is None
    assert second.edited_at is not None
    assert (second.text, second.tags) == ("without", ())


def test_accounts_that_go_and_come_back_are_told(pds: Pds, wire_of: tuple[str, str]) -> None:
    ana = pds.create_account("ana")
    pds.deactivate_account(ana)
    pds.activate_account(ana)

    def changes(pages: list[Page]) -> list[AccountChanged]:
        return [one for page in pages for one in page.accounts if one.native_id == ana.did]

    pages = follow(source(*wire_of), None, lambda pages: len(changes(pages)) >= 3)
    assert [one.active for one in changes(pages)] == [True, False, True]


def test_deletions_are_told_by_id(pds: Pds, wire_of: tuple[str, str]) -> None:
    ana = pds.create_account("ana")
    gone = pds.create_record(ana, "#shareASM")["uri"]
    pds.delete_record(ana, gone)
    pages = follow(source(*wire_of), None, lambda pages: any(one.native_id == gone for p in pages for one in p.removed))
    assert gone in {seen.native_id for seen in seen_in(pages)}


@pytest.mark.parametrize("created", ["0001-01-01T00:00:00.000Z", "2999-01-01T00:00:00.000Z"])
def test_an_absurd_time_becomes_the_moment_the_server_saw_the_post(pds: Pds, here: str, created: str) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    pds.create_record(pds.create_account("ana"), "#shareASM", createdAt=created)
    (seen,) = seen_in(drain(source(pds.url), here))
    assert before <= seen.posted_at <= datetime.now(UTC)


def test_an_old_time_is_kept(pds: Pds, here: str) -> None:
    pds.create_record(pds.create_account("ana"), "#shareASM", createdAt="2015-06-25T09:00:00.000Z")
    (seen,) = seen_in(drain(source(pds.url), here))
    assert seen.posted_at == datetime(2015, 6, 25, 9, tzinfo=UTC)


def test_a_hashtag_that_is_no_token_is_found_as_it_stands(pds: Pds, here: str) -> None:
    uri = pds.create_record(pds.create_account("ana"), "we #A&SM")["uri"]
    assert [one.native_id for one in seen_in(drain(source(pds.url), here, hashtags=("#A&SM",)))] == [uri]
    assert seen_in(drain(source(pds.url), here, hashtags=("#A",))) != []


# ── Cursors: nothing lost, nothing twice ─────────────────────────────────────────────────────────────────────────────


def test_reading_on_from_the_cursor_gives_the_rest_and_nothing_twice(
    pds: Pds, us: Account, wire_of: tuple[str, str]
) -> None:
    posted: list[str] = []
    seen: list[str] = []
    cursor: str | None = None
    for _ in range(4):
        posted += [pds.create_record(us, f"{len(posted)} #shareASM")["uri"] for _ in range(5)]
        is_enough = partial(has_seen, posted[-1])
        pages = follow(source(*wire_of), cursor, is_enough)
        seen += [one.native_id for one in seen_in(pages) if one.native_id in posted]
        cursor = end_of(pages, cursor)
    assert seen == posted


def test_without_a_cursor_everything_the_server_still_has_is_read(pds: Pds, us: Account) -> None:
    uris = {pds.create_record(us, f"{number} #shareASM")["uri"] for number in range(3)}
    assert uris <= {seen.native_id for seen in seen_in(drain(source(pds.url)))}


def test_a_quiet_server_is_complete_until_now(pds: Pds, here: str) -> None:
    before = datetime.now(UTC)
    pages = drain(source(pds.url), here)
    assert seen_in(pages) == []
    assert pages[-1].complete_until is not None
    assert before <= pages[-1].complete_until <= datetime.now(UTC)


def test_a_quiet_jetstream_is_complete_until_its_last_answer(jetstream: Jetstream) -> None:
    before = datetime.now(UTC)
    pages = drain(source(jetstream.url, "jetstream"))
    assert pages[-1].complete_until is not None
    assert before - timedelta(seconds=3) <= pages[-1].complete_until <= datetime.now(UTC)


def test_a_cursor_of_the_future_is_a_hole_and_everything_is_read_again(pds: Pds, us: Account) -> None:
    uri = pds.create_record(us, "#shareASM")["uri"]
    pages = drain(source(pds.url), "1000000000")
    assert [hole.from_cursor for page in pages for hole in page.holes] == ["1000000000"]
    assert uri in {seen.native_id for seen in seen_in(pages)}
    assert int(end_of(pages) or 0) < 1_000_000_000


def test_what_the_server_no_longer_has_is_a_hole(tmp_path: Path) -> None:
    with Pds(tmp_path / "pds", backfill_ms=700) as pds:
        ana = pds.create_account("ana")
        pds.create_record(ana, "old #shareASM")
        end, pages, holes, new = time.monotonic() + 30, [], [], ""
        while not holes and time.monotonic() < end:
            new = pds.create_record(ana, "new #shareASM")["uri"]
            pages = drain(source(pds.url), "1")
            holes = [hole for page in pages for hole in page.holes]
        assert len(holes) == 1
        assert holes[0].from_cursor == "1"
        assert holes[0].to_at is not None
        assert new in {seen.native_id for seen in seen_in(pages)}


def test_a_cut_stream_ends_in_words_and_goes_on_from_its_cursor(pds: Pds, us: Account, proxy: Proxy, here: str) -> None:
    first = pds.create_record(us, "1 #shareASM")["uri"]
    seen: list[str] = []
    cursor: str | None = here
    with pytest.raises(Unreachable, match="closed"):
        for page in source(proxy.ws_url).pages(query(), cursor, live=True):
            seen += [one.native_id for one in page.seen]
            cursor = page.cursor or cursor
            if seen:
                proxy.cut()
    second = pds.create_record(us, "2 #shareASM")["uri"]
    seen += [one.native_id for one in seen_in(drain(source(proxy.url), cursor))]
    assert seen == [first, second]


def test_a_line_that_answers_no_ping_is_dead(proxy: Proxy, here: str) -> None:
    with pytest.raises(Unreachable, match="dead"):
        for _ in source(proxy.url, dead_seconds=0.6).pages(query(), here, live=True):
            proxy.fall_silent()


def test_a_server_that_is_not_there_is_said_in_words(proxy: Proxy) -> None:
    proxy.refuse()
    with pytest.raises(Unreachable, match="connection refused"):
        drain(source(proxy.url))


@pytest.mark.parametrize("ending", ["", "/", "/xrpc", "/xrpc/"])
@pytest.mark.parametrize("scheme", ["http", "ws"])
def test_the_address_may_be_written_in_every_way(pds: Pds, us: Account, here: str, scheme: str, ending: str) -> None:
    uri = pds.create_record(us, "#shareASM")["uri"]
    found = seen_in(drain(source(pds.url.replace("http", scheme) + ending), here))
    assert uri in {seen.native_id for seen in found}


def test_an_unknown_protocol_is_said_at_once(pds: Pds) -> None:
    with pytest.raises(ConfigError, match="Did you mean “firehose”"):
        source(pds.url, "firehoses")


def test_live_and_quiet_there_are_still_pages_and_then_the_new_post(
    pds: Pds, us: Account, wire_of: tuple[str, str]
) -> None:
    before = datetime.now(UTC)
    posted: list[str] = []

    def is_enough(pages: list[Page]) -> bool:
        last = pages[-1].complete_until
        if not posted and not pages[-1].seen and last is not None and last >= before:
            posted.append(pds.create_record(us, "at last #shareASM")["uri"])
        return bool(posted) and posted[0] in {seen.native_id for seen in pages[-1].seen}

    assert follow(source(*wire_of), None, is_enough)


# ── Frames that a friendly server never sends ────────────────────────────────────────────────────────────────────────


@contextmanager
def telling(*frames: bytes | str, then_close: bool = False, asked: list[str] | None = None) -> Iterator[str]:
    """A server whose stream tells these messages and then keeps quiet, or hangs up politely.

    Whom somebody asks about is “ana.test”; the questions are noted in `asked`.
    """
    visits = count()

    def answer(client: ServerConnection, request: Request) -> Response | None:
        if "describeRepo" not in request.path:
            return None
        if asked is not None:
            asked.append(request.path)
        return client.respond(http.HTTPStatus.OK, '{"handle": "ana.test"}')

    def handle(client: ServerConnection) -> None:
        is_first = next(visits) == 0  # the second visit asks whether that was all
        for message in frames if is_first else [frame("error", error="FutureCursor")]:
            client.send(message)
        if not then_close:
            for _ in client:
                pass

    def pick(_: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
        return offered[0] if offered else None

    with serve(handle, "127.0.0.1", 0, process_request=answer, select_subprotocol=pick) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()


def frame(kind: str, **body: Any) -> bytes:
    head = {"op": -1} if kind == "error" else {"op": 1, "t": kind}
    return libipld.encode_dag_cbor(head) + libipld.encode_dag_cbor(body)


def commit_frame(seq: int, record: dict[str, Any], rkey: str) -> bytes:
    block = libipld.encode_dag_cbor(record)
    cid = libipld.decode_multibase(cid_of(record))[1]
    head = libipld.encode_dag_cbor({"roots": [cid], "version": 1})
    car = b"".join(_varint(len(part)) + part for part in (head, cid + block))
    ops = [{"action": "create", "path": f"{POST}/{rkey}", "cid": cid}]
    moment = "2026-11-22T09:00:00.000Z"
    return frame("#commit", seq=seq, time=moment, repo="did:plc:ana", rev=rkey, ops=ops, blocks=car)


def _varint(number: int) -> bytes:
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + _varint(rest) if rest else bytes([low])


def account_frame(seq: int) -> bytes:
    return frame("#account", seq=seq, time="2026-11-22T09:00:00.000Z", did=f"did:plc:{seq}", active=True)


@pytest.mark.parametrize(
    "broken",
    [b"\xff\xff", b"", b"{}", account_frame(2)[:-9], frame("#commit", seq=2), frame("#account", seq="x", time=1)],
)
def test_a_message_that_cannot_be_read_is_a_hole_between_its_neighbours(broken: bytes) -> None:
    with telling(account_frame(1), broken, account_frame(3)) as url:
        pages = drain(source(url))
    (hole,) = [hole for page in pages for hole in page.holes]
    assert (hole.from_cursor, hole.to_cursor) == ("1", "3")
    assert [one.native_id for page in pages for one in page.accounts] == ["did:plc:1", "did:plc:3"]


def test_a_handle_that_the_stream_does_not_tell_is_asked_once_and_for_tagged_posts_only() -> None:
    posts = ["one #shareASM", "another", "two #shareASM"]
    asked: list[str] = []
    with telling(
        *(commit_frame(seq, post_record(said), f"3k{seq}") for seq, said in enumerate(posts, 1)), asked=asked
    ) as url:
        seen = seen_in(drain(source(url)))
    assert [one.author.handle for one in seen] == ["ana.test", "ana.test"]
    assert len(asked) == 1


def test_a_commit_without_the_record_it_names_is_a_hole() -> None:
    whole = commit_frame(2, post_record("#shareASM"), "3k")
    head, body = libipld.decode_dag_cbor_multi(whole)
    empty = libipld.encode_dag_cbor({"roots": [], "version": 1})
    cut = libipld.encode_dag_cbor(head) + libipld.encode_dag_cbor(body | {"blocks": _varint(len(empty)) + empty})
    with telling(account_frame(1), cut, account_frame(3)) as url:
        pages = drain(source(url))
    assert len([hole for page in pages for hole in page.holes]) == 1


def test_a_message_of_a_new_kind_is_no_hole() -> None:
    new = frame("#tomorrow", seq=2, time="2026-11-22T09:00:00.000Z")
    with telling(account_frame(1), new, frame("#info", name="News")) as url:
        pages = drain(source(url))
    assert [hole for page in pages for hole in page.holes] == []
    assert end_of(pages) == "2"


def test_the_cursors_own_event_is_not_told_again() -> None:
    with telling(account_frame(7), account_frame(8)) as url:
        pages = drain(source(url), "7")
    assert [one.native_id for page in pages for one in page.accounts] == ["did:plc:8"]


def test_a_polite_close_ends_in_words_and_what_came_before_is_given() -> None:
    pages: list[Page] = []
    with telling(account_frame(1), then_close=True) as url, pytest.raises(Unreachable, match="closed"):
        for page in source(url).pages(query(), None, live=True):
            pages.append(page)
    assert [one.native_id for page in pages for one in page.accounts] == ["did:plc:1"]
    assert end_of(pages) == "1"


def test_the_servers_last_words_are_passed_on() -> None:
    said = frame("error", error="ConsumerTooSlow", message="too slow")
    with telling(said) as url, pytest.raises(Unreachable, match="ConsumerTooSlow, too slow"):
        drain(source(url))


@pytest.mark.parametrize(
    "strange", [{}, {"text": 7, "facets": [3, {"features": "x"}], "reply": [], "embed": {"record": 1}}]
)
def test_a_strange_record_does_not_stop_the_stream(strange: dict[str, Any]) -> None:
    commit = {"did": "did:plc:a", "collection": POST, "rkey": "3k", "cid": "b", "operation": "create", "seq": 5}
    moment = "2026-11-22T09:00:00Z"
    strange = {"tags": ["shareASM", 4], "createdAt": "yesterday", **strange}
    payload = {"$type": "x#commit", "time": moment, **commit, "record": strange}
    with telling(msgspec.json.encode({"$type": "message", "payload": payload}).decode()) as url:
        (seen,) = seen_in(drain(source(url, "jetstream")))
    assert seen.tags == ("shareASM",)
    assert seen.posted_at == datetime.fromisoformat(moment)


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=9)
    | st.sampled_from([f"at://x/{POST}/y/z", "#shareASM"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=12,
)


@given(st.dictionaries(NAMES, ANYTHING, max_size=9), st.sampled_from([seen_post, seen_repost]))
def test_no_record_can_stop_the_stream(record: dict[str, Any], read: Callable[[Event], Seen | None]) -> None:
    seen = read(Event("create", 1, datetime.now(UTC), "did:plc:a", POST, "3k", "b", record))
    assert seen is None or msgspec.json.decode(seen.raw)["record"] == record
    assert seen is None or "\0" not in seen.text


def test_jetstreams_notices_become_holes() -> None:
    info = {"$type": "message", "payload": {"$type": "x#info", "name": "OutdatedCursor"}}
    account = {
        "$type": "x#account",
        "seq": 9,
        "time": "2026-11-22T09:00:00Z",
        "did": "did:plc:a",
        "account": {"active": False},
    }
    messages = [msgspec.json.encode(one).decode() for one in (info, {"$type": "message", "payload": account})]
    with telling(*messages) as url:
        pages = drain(source(url, "jetstream"), "4")
    (hole,) = [hole for page in pages for hole in page.holes]
    assert (hole.from_cursor, hole.to_cursor) == ("4", "9")
    assert [page.accounts[0].active for page in pages if page.accounts] == [False]
