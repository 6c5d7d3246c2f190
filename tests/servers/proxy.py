"""Proxy: a second address of a server on loopback, for HTTP and websockets, whose line a test can cut."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from io import BufferedReader
from typing import Literal, Self
from urllib.parse import urlsplit

Mode = Literal["pass", "refuse", "silent"]
CHUNK = 65536


class Proxy:
    """Stands before the server at `target_url`; clients are given `url` (or `ws_url`) instead.

    `requests` holds the first line of each request that reached the server, `swallowed` of those that lost the answer.
    """

    def __init__(self, target_url: str) -> None:
        target = urlsplit(target_url)
        self.target = (target.hostname or "127.0.0.1", target.port or 80)
        self.requests: list[str] = []
        self.swallowed: list[str] = []
        self.mode: Mode = "pass"
        self._to_swallow, self._containing = 0, ""
        self._lock = threading.Lock()
        self._lines: set[_Line] = set()
        self._listener: socket.socket | None = None
        self.port = self._listen(0)
        self.url, self.ws_url = f"http://127.0.0.1:{self.port}", f"ws://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def swallow(self, times: int = 1, containing: str = "") -> None:
        """Lose the answers of the next requests whose first line contains the text.

        The server does what they ask; when it has answered, the client's connection is closed instead.
        """
        with self._lock:
            self._to_swallow, self._containing = times, containing

    def pass_all(self) -> None:
        """Let everything through again. A connection that fell silent stays dead; new ones pass."""
        self.mode = "pass"
        if self._listener is None:
            self._listen(self.port)

    def refuse(self) -> None:
        """Cut every connection and refuse new ones."""
        self.mode = "refuse"
        self._close_listener()
        self.cut()

    def fall_silent(self) -> None:
        """Accept connections and requests, and let nothing through either way, like a black hole."""
        self.mode = "silent"
        if self._listener is None:
            self._listen(self.port)

    def cut(self) -> None:
        """Close every connection that is open now; the next one may pass."""
        with self._lock:
            lines = list(self._lines)
        for line in lines:
            line.close()

    def close(self) -> None:
        """End the proxy."""
        self.refuse()

    def note(self, first_line: str) -> bool:
        """Write down a request on its way to the server, and tell whether its answer is to be lost."""
        with self._lock:
            self.requests.append(first_line)
            lose = self._to_swallow > 0 and self._containing in first_line
            if lose:
                self._to_swallow -= 1
                self.swallowed.append(first_line)
            return lose

    def forget(self, line: "_Line") -> None:
        """Drop a connection that has ended."""
        with self._lock:
            self._lines.discard(line)

    def _listen(self, port: int) -> int:
        listener = socket.create_server(("127.0.0.1", port))
        listener.settimeout(0.1)
        self._listener = listener
        self._acceptor = threading.Thread(target=self._accept, args=(listener,), daemon=True)
        self._acceptor.start()
        return listener.getsockname()[1]

    def _close_listener(self) -> None:
        listener, self._listener = self._listener, None
        if listener:
            _end(listener)
            self._acceptor.join()  # until then the system may still accept

    def _accept(self, listener: socket.socket) -> None:
        while listener is self._listener:
            try:
                client, _ = listener.accept()
            except TimeoutError:
                continue
            except OSError:  # refuse() closed the listener
                return
            client.settimeout(None)
            line = _Line(self, client)
            with self._lock:
                self._lines.add(line)
            if self.mode == "refuse":
                line.close()
            else:
                threading.Thread(target=line.carry_requests, daemon=True).start()


class _Line:
    """One connection of a client and its twin to the server. Clients do not pipeline: one flag is enough."""

    def __init__(self, proxy: Proxy, client: socket.socket) -> None:
        self.proxy, self.client = proxy, client
        self.server: socket.socket | None = None
        self.losing = self.is_dead = False

    def carry_requests(self) -> None:
        with contextlib.suppress(OSError), self.client.makefile("rb") as stream:
            while head := _head(stream):
                if self._is_silent():
                    _drain(stream)
                    break
                self.losing = self.proxy.note(head.partition(b"\r\n")[0].decode("latin-1"))
                server = self._to_server()
                server.sendall(head)
                for part in _body(stream, head):
                    server.sendall(part)
        self.close()

    def _to_server(self) -> socket.socket:
        if self.server is None:
            self.server = socket.create_connection(self.proxy.target)
            threading.Thread(target=self._carry_answers, args=(self.server,), daemon=True).start()
        return self.server

    def _carry_answers(self, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(CHUNK):
                if self.losing:
                    break
                if not self._is_silent():
                    self.client.sendall(data)
        self.close()

    def _is_silent(self) -> bool:
        self.is_dead = self.is_dead or self.proxy.mode == "silent"
        return self.is_dead

    def close(self) -> None:
        self.proxy.forget(self)
        for end in (self.client, self.server):
            if end:
                _end(end)


def _end(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for it
    one.close()


def _head(stream: BufferedReader) -> bytes:
    lines = []
    while line := stream.readline():
        lines.append(line)
        if line == b"\r\n":
            return b"".join(lines)
    return b""


def _body(stream: BufferedReader, head: bytes) -> Iterator[bytes]:
    pairs = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    headers = {name.strip().lower(): value.strip().lower() for name, _, value in pairs}
    if b"upgrade" in headers:
        while part := stream.read1(CHUNK):
            yield part
    elif headers.get(b"transfer-encoding") == b"chunked":
        size = -1
        while size:
            line = stream.readline()
            size = int(line.split(b";")[0], 16)
            yield line + stream.read(size + 2)
    else:
        yield stream.read(int(headers.get(b"content-length", 0)))


def _drain(stream: BufferedReader) -> None:
    while stream.read(1):
        pass
