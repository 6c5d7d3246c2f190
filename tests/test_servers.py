"""The servers of the tests prove themselves: what they promise is what the other tests stand on."""

import http.server
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
from mastodon_mock.testing.server import MockServer
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests import fence
from tests.servers import mastodon
from tests.servers.bluesky import Pds, post_record
from tests.servers.chromium import Browser
from tests.servers.jetstream import NSID, Jetstream
from tests.servers.postgres import Postgres
from tests.servers.proxy import Proxy

RKEY = "3mdeskdeskdes"


class Counter(http.server.BaseHTTPRequestHandler):
    """A page that remembers what reached it."""

    protocol_version = "HTTP/1.1"
    posted: list[bytes]

    def do_GET(self) -> None:
        self._answer(b"<!doctype html><title>the desk</title><p>hello")

    def do_POST(self) -> None:
        self.posted.append(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(b"done")

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[tuple[str, list[bytes]]]:
    posted: list[bytes] = []
    handler = type("Site", (Counter,), {"posted": posted})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", posted
        server.shutdown()


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=5, trust_env=False) as client:
        yield client


def test_one_key_put_three_times_is_one_post(pds: Pds) -> None:
    desk = pds.create_account("desk")
    record = post_record("A mine in Tanga #shareASM")
    cids = {pds.put_record(desk, RKEY, record, swapRecord=None)["cid"] for _ in range(3)}
    assert len(cids) == 1
    assert [found["value"] for found in pds.records(desk.did)] == [record]


def test_another_text_under_the_same_key_is_refused(pds: Pds) -> None:
    desk = pds.create_account("desk")
    pds.put_record(desk, RKEY, post_record("first"), swapRecord=None)
    with pytest.raises(httpx.HTTPStatusError, match="InvalidSwap"):
        pds.put_record(desk, RKEY, post_record("second"), swapRecord=None)


def test_a_hashtag_is_counted_in_bytes(pds: Pds) -> None:
    ana = pds.create_account("ana")
    pds.create_record(ana, "Minería — ⛏️ #shareASM")
    (found,) = pds.records(ana.did)
    (facet,) = found["value"]["facets"]
    index = facet["index"]
    assert found["value"]["text"].encode()[index["byteStart"] : index["byteEnd"]] == b"#shareASM"
    assert facet["features"][0]["tag"] == "shareASM"


def test_all_pages_of_the_records_are_read(pds: Pds) -> None:
    ana = pds.create_account("ana")
    uris = {pds.create_record(ana, f"number {at}")["uri"] for at in range(101)}
    assert {found["uri"] for found in pds.records(ana.did)} == uris
    pds.delete_record(ana, uris.pop())
    assert {found["uri"] for found in pds.records(ana.did)} == uris


def test_a_deactivated_account_is_out_of_sight(pds: Pds) -> None:
    ana = pds.create_account("ana")
    pds.deactivate_account(ana)
    status = pds.http.get("com.atproto.sync.getRepoStatus", params={"did": ana.did}).json()
    assert status["status"] == "deactivated"
    pds.activate_account(ana)
    assert pds.http.get("com.atproto.sync.getRepoStatus", params={"did": ana.did}).json()["active"]


def test_a_killed_pds_keeps_what_it_had(tmp_path: Path) -> None:
    with Pds(tmp_path) as own:
        desk = own.create_account("desk")
        uri = own.create_record(desk, "before #shareASM")["uri"]
        own.restart()
        own.create_session(desk)
        assert [found["uri"] for found in own.records(desk.did)] == [uri]


def test_jetstream_tells_what_the_pds_has(pds: Pds, jetstream: Jetstream) -> None:
    ana = pds.create_account("ana")
    uri = pds.create_record(ana, "on the stream #shareASM")["uri"]
    with connect(f"{jetstream.url}/{NSID}?cursor=1&kinds=commit&dids={ana.did}", proxy=None) as stream:
        event = json.loads(stream.recv(timeout=10))["payload"]
    assert (event["operation"], event["rkey"]) == ("create", uri.rpartition("/")[2])
    assert event["record"]["text"] == "on the stream #shareASM"


def test_postgresql_answers(postgres: Postgres) -> None:
    url = postgres.fresh_database().replace("+psycopg", "")
    with psycopg.connect(url) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_a_fresh_database_is_empty(postgres: Postgres) -> None:
    first, second = (postgres.fresh_database().replace("+psycopg", "") for _ in range(2))
    with psycopg.connect(first) as connection:
        connection.execute("create table kept (id int)")
    with psycopg.connect(second) as connection:
        assert connection.execute("select to_regclass('kept')").fetchone() == (None,)


def test_each_kind_of_database_has_its_url(database_url: str, request: pytest.FixtureRequest) -> None:
    assert urlsplit(database_url).scheme.partition("+")[0] in request.node.callspec.id


def test_the_proxy_passes(site: tuple[str, list[bytes]], client: httpx.Client) -> None:
    with Proxy(site[0]) as proxy:
        assert client.get(proxy.url).text.endswith("hello")
        assert client.post(proxy.url, content=iter([b"in ", b"parts"]), headers={"Content-Length": "8"}).text == "done"
    assert site[1] == [b"in parts"]
    assert proxy.requests == ["GET / HTTP/1.1", "POST / HTTP/1.1"]


def test_a_swallowed_answer_had_its_request_done(site: tuple[str, list[bytes]], client: httpx.Client) -> None:
    with Proxy(site[0]) as proxy:
        client.get(proxy.url)
        proxy.swallow(1, containing="POST /send")
        with pytest.raises(httpx.RemoteProtocolError):
            client.post(f"{proxy.url}/send", content=b"once")
        assert site[1] == [b"once"]
        assert client.post(f"{proxy.url}/send", content=b"again").text == "done"
    assert proxy.swallowed == ["POST /send HTTP/1.1"]


def test_a_refusing_proxy_can_be_opened_again(site: tuple[str, list[bytes]], client: httpx.Client) -> None:
    with Proxy(site[0]) as proxy:
        proxy.refuse()
        with pytest.raises(httpx.ConnectError):
            client.get(proxy.url)
        proxy.pass_all()
        assert client.get(proxy.url).status_code == 200


def test_a_silent_proxy_lets_nothing_reach_the_server(site: tuple[str, list[bytes]], client: httpx.Client) -> None:
    with Proxy(site[0]) as proxy:
        proxy.fall_silent()
        with pytest.raises(httpx.ReadTimeout):
            client.post(proxy.url, content=b"lost", timeout=0.2)
        proxy.pass_all()
        assert client.get(proxy.url).status_code == 200
    assert site[1] == []


def test_a_websocket_passes_and_can_be_cut(jetstream: Jetstream, pds: Pds) -> None:
    ana = pds.create_account("ana")
    with (
        Proxy(jetstream.url) as proxy,
        connect(f"{proxy.ws_url}/subscribe?cursor=0&wantedDids={ana.did}", proxy=None) as stream,
    ):
        assert json.loads(stream.recv(timeout=10))["did"] == ana.did
        proxy.cut()
        with pytest.raises(ConnectionClosed):
            while True:
                stream.recv(timeout=10)


def test_a_page_opens_in_chromium(browser: Browser, site: tuple[str, list[bytes]]) -> None:
    page = browser.page(viewport={"width": 390, "height": 844})
    page.goto(site[0])
    assert page.title() == "the desk"
    assert browser.hosts == {urlsplit(site[0]).netloc}


def test_two_mastodons_have_their_own_names(mastodons: tuple[MockServer, MockServer], client: httpx.Client) -> None:
    names = [client.get(f"{server.base_url}/api/v2/instance").json()["domain"] for server in mastodons]
    assert names == ["one.test", "two.test"]
    headers = {"Authorization": f"Bearer {mastodon.TOKENS['desk']}"}
    sent = client.post(f"{mastodons[0].base_url}/api/v1/statuses", data={"status": "#shareASM"}, headers=headers)
    assert sent.json()["account"]["username"] == "desk"


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_the_fence_holds(address: str, fence_raised: list[str]) -> None:
    with pytest.raises(fence.LeftLoopback):
        socket.create_connection((address, 80), timeout=1)
    with pytest.raises(fence.LeftLoopback):
        socket.getaddrinfo("example.org", 443)
    assert len(fence_raised) == 2
    fence_raised.clear()
