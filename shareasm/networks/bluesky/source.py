"""Source: an open stream, page by page, until it is past this moment or for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from shareasm import text as texts
from shareasm.deadline import CONNECT_SECONDS, tls, words_of
from shareasm.errors import ConfigError, NetworkError, RateLimited, Refused, Unreachable
from shareasm.model import Clock, Hole, Page, Query
from shareasm.networks import Setting
from shareasm.networks.bluesky import NETWORK, PUBLIC_JETSTREAM
from shareasm.networks.bluesky.page import CursorRefused, Gather, Handles
from shareasm.networks.bluesky.wires import Firehose, Jetstream, StreamRefused, StreamWire, Unreadable
from shareasm.networks.bluesky.xrpc import Answer, Server, web_address

PAGE_SECONDS, PAGE_ROWS = 0.5, 300  # one commit may hold 200 rows, and a page may hold 500
QUIET_SECONDS, DEAD_SECONDS = 1.5, 30.0
SERVER_LAG = timedelta(seconds=2)  # a PDS looks for what is new at least once a second
MESSAGE_BYTES = 32_000_000


class BlueskySource:
    """One Jetstream, PDS or relay. The caller reconnects: `pages` ends by raising Unreachable when the line does."""

    network: str = NETWORK

    def __init__(self, setting: Setting, *, dead_seconds: float = DEAD_SECONDS) -> None:
        wires: dict[str, type[Jetstream] | type[Firehose]] = {"jetstream": Jetstream, "firehose": Firehose}
        protocol = setting.protocol or "jetstream"
        if protocol not in wires:
            words = f"“{protocol}” is no way to listen to Bluesky."
            raise ConfigError(words, texts.did_you_mean(protocol, wires), where=setting.name)
        self.server: str = setting.server or PUBLIC_JETSTREAM
        self._base = web_address(self.server, setting.name)
        self._clock, self._dead_seconds = setting.clock, dead_seconds
        self._wire: StreamWire = wires[protocol]()
        self._handles = Handles(Server(self._base, setting.name, setting.clock), may_ask=protocol == "firehose")

    def pages(self, query: Query, cursor: str | None, *, live: bool) -> Iterator[Page]:
        """Yield what the stream holds after the cursor, or everything that it still has when there is none.

        A cursor that the server does not take becomes a Hole, and the stream begins with what the server still has.
        """
        position = cursor or self._wire.beginning(query)
        try:
            yield from self._listen(query, position, live=live)
        except CursorRefused as refused:
            position = self._wire.beginning(query)
            hole = Hole(None, self._clock.now(), str(refused), from_cursor=cursor or "", to_cursor=position)
            yield Page(holes=(hole,), cursor=position)
            try:
                yield from self._listen(query, position, live=live)
            except CursorRefused as again:
                raise self._unreachable(str(again)) from again

    def _listen(self, query: Query, position: str, *, live: bool) -> Iterator[Page]:
        # The machine's clock too: with a clock that stands in the past the backlog would look like the present.
        begun = max(self._clock.now(), datetime.now(UTC))
        gather = Gather(query, position, self._handles, self._clock)
        with self._connect(position) as socket:
            line = Line(socket, self._clock, self._dead_seconds)
            while True:
                fault = self._fill(gather, line, patient=live)
                is_past = fault is None and self._is_past(gather, line, begun, may_ask=not live)
                # First the rows, then the fault: a server that hangs up early each time would else never be read.
                yield gather.page(line.heard_until if line.has_caught_up else None)
                if fault is not None:
                    raise fault
                if is_past and not live:
                    return

    def _fill(self, gather: Gather, line: Line, *, patient: bool) -> Unreachable | None:
        """Gather rows until the page is full, its time is over, or (where nobody waits for more) all is quiet.

        Return the fault that ended the stream, if one did.
        """
        end = time.monotonic() + PAGE_SECONDS
        while gather.rows < PAGE_ROWS and (left := end - time.monotonic()) > 0:
            try:
                frame = line.next(left if patient else min(left, 0.1))
            except ConnectionClosed as closed:
                return self._unreachable(f"it was closed{_reason_of(closed)}")
            except TimeoutError as silent:
                return self._unreachable(str(silent))
            if frame is None:
                break
            try:
                events = self._wire.read(frame)
            except Unreadable as fault:
                gather.miss(str(fault))
            except StreamRefused as refused:
                return self._unreachable(str(refused))
            else:
                gather.take(events)
        return None

    def _is_past(self, gather: Gather, line: Line, begun: datetime, *, may_ask: bool) -> bool:
        """Tell whether everything that was there when we began has come. Three proofs, the last is the surest.

        The server shows events younger than our beginning; it answers pings and has sent nothing for a while; or it
        calls the number after our last one a cursor of the future.
        """
        if line.has_caught_up:
            return True
        is_young = gather.last_at is not None and gather.last_at >= begun
        line.has_caught_up = is_young or line.quiet_seconds >= QUIET_SECONDS
        if may_ask and not line.has_caught_up and line.may_probe(gather.last_seq):
            asked_at = self._clock.now()
            if self._is_head(gather.last_seq):
                line.has_caught_up, line.heard_until = True, asked_at
        return line.has_caught_up

    def _is_head(self, seq: int | None) -> bool:
        if seq is None or not self._wire.tells_future:
            return False
        try:
            with self._connect(str(seq + 1)) as socket:
                events = self._wire.read(socket.recv(timeout=1.0, decode=False))
        except (WebSocketException, OSError, NetworkError, Unreadable, StreamRefused, CursorRefused):
            return False
        return any(event.what == "FutureCursor" for event in events)

    def _connect(self, position: str) -> ClientConnection:
        address = f"{self._base.replace('http', 'ws', 1)}/xrpc/{self._wire.method}?{self._wire.query(position)}"
        protocol = self._wire.subprotocol
        try:
            # Pings are ours: the library's would end a stream whose reader is busy keeping a page.
            return connect(
                address,
                ssl=tls() if address.startswith("wss:") else None,
                subprotocols=[Subprotocol(protocol)] if protocol else None,
                open_timeout=2 * CONNECT_SECONDS,
                close_timeout=1,
                ping_interval=None,
                max_size=MESSAGE_BYTES,
                compression=None,
                proxy=None,
                user_agent_header="shareasm",
            )
        except InvalidStatus as refused:
            raise self._turned_away(refused) from refused
        except (OSError, WebSocketException) as fault:
            raise self._unreachable(words_of(fault)) from fault

    def _turned_away(self, refused: InvalidStatus) -> Exception:
        status, body = refused.response.status_code, bytes(refused.response.body or b"")
        words = Answer(status, {}, body).words
        if b"CursorTooOld" in body:
            return CursorRefused("The server no longer has what came after our cursor.")
        if status == 429:
            return RateLimited(None, f"{self.server} asks us to wait.", network=NETWORK)
        if status in (401, 402, 403):  # asking again changes nothing
            return Refused(f"{self.server} does not let us listen: {words}.", network=NETWORK)
        return self._unreachable(words)

    def _unreachable(self, why: str) -> Unreachable:
        words = f"Bluesky's stream {self.server} cannot be read: {why}."
        return Unreachable(words, "The desk connects again by itself.", network=NETWORK)


def _reason_of(closed: ConnectionClosed) -> str:
    told = closed.rcvd.reason if closed.rcvd else ""
    return f" ({told})" if told else ""


class Line:
    """An open stream: what comes next, and how long it has been quiet. Only an answered ping makes silence quiet."""

    def __init__(self, socket: ClientConnection, clock: Clock, dead_seconds: float) -> None:
        self._socket, self._clock, self._dead_seconds = socket, clock, dead_seconds
        self._pong: threading.Event | None = None
        self._pinged_at, self._pinged = clock.now(), time.monotonic()
        self._spoke = self._told = time.monotonic()
        self._probed: tuple[int | None, float] | None = None
        self.heard_until: datetime | None = None
        self.has_caught_up = False

    def next(self, seconds: float) -> bytes | None:
        """Return the next message, or None when none comes. Raise TimeoutError when the line is dead."""
        # Asked before we wait: an answer that comes meanwhile may stand behind messages that we have not read.
        is_answered = self._pong is not None and self._pong.is_set()
        try:
            frame = self._socket.recv(timeout=seconds, decode=False)
        except TimeoutError:
            self._hear_silence(is_answered=is_answered)
            return None
        self._spoke = time.monotonic()
        return frame

    @property
    def quiet_seconds(self) -> float:
        """How long the server has had nothing to say, up to the last ping that it answered."""
        return max(0.0, self._told - self._spoke)

    def may_probe(self, seq: int | None) -> bool:
        """Tell whether it is worth asking if this is the last number: when all is quiet, and once a second."""
        now = time.monotonic()
        is_new = self._probed is None or self._probed[0] != seq or now - self._probed[1] >= 1
        if self.quiet_seconds == 0 or not is_new:
            return False
        self._probed = (seq, now)
        return True

    def _hear_silence(self, *, is_answered: bool) -> None:
        """Ping, and take the answer to mean that everything sent before it has been read: a line keeps its order."""
        if is_answered:
            self._told, self.heard_until, self._pong = self._pinged, self._pinged_at - SERVER_LAG, None
        if self._pong is None:
            self._pinged, self._pinged_at = time.monotonic(), self._clock.now()
            self._pong = self._socket.ping()
        elif time.monotonic() - max(self._pinged, self._spoke) > self._dead_seconds:
            raise TimeoutError(f"it has been dead for {self._dead_seconds:g} seconds")
