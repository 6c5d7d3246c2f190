"""Deadline: connections on which a whole call, from the name's resolution to the last byte, ends at one moment.

A read time-out alone never ends against a server that drips one byte a second, and the system's resolver knows no
time-out of ours. Every network's requests go through here; what is asked and what is answered is the network's own.
"""

from __future__ import annotations

import functools
import re
import socket
import threading
import time
from collections.abc import Iterable
from queue import Empty, SimpleQueue
from typing import Any

import httpcore

CONNECT_SECONDS, READ_SECONDS = 5.0, 15.0
TIMEOUTS = {"connect": CONNECT_SECONDS, "read": READ_SECONDS, "write": READ_SECONDS, "pool": CONNECT_SECONDS}


def words_of(fault: Exception) -> str:
    """Return what went wrong on the line, in the system's words."""
    return re.sub(r"^\[errno -?\d+\] ", "", str(fault).lower()) or type(fault).__name__


@functools.cache
def tls() -> Any:
    """Return the one TLS context: reading the certificates takes longer than a post."""
    return httpcore.default_ssl_context()


class Deadline(httpcore.NetworkBackend):
    """Sockets on which no step outlasts one moment: a read time-out alone never ends against one byte a second."""

    def __init__(self, end: float) -> None:
        self._end = end

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the name's addresses in turn, each with its share of the time that is left."""
        end = min(self._end, time.monotonic() + (timeout or CONNECT_SECONDS))
        addresses = _addresses(host, port, _left(end, httpcore.ConnectTimeout))
        for place, address in enumerate(addresses, 1):
            share = _left(end, httpcore.ConnectTimeout) / (len(addresses) - place + 1)
            try:
                stream = httpcore.SyncBackend().connect_tcp(address, port, share, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if place == len(addresses):
                    raise
            else:
                return _DeadlineStream(stream, self._end)
        raise httpcore.ConnectError("the name has no address")


class _DeadlineStream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, end: float) -> None:
        self._stream, self._end = stream, end

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(self._end, httpcore.ReadTimeout, timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), 16_384):  # in pieces, so that a slow reader meets the deadline too
            self._stream.write(buffer[start : start + 16_384], _left(self._end, httpcore.WriteTimeout, timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = _left(self._end, httpcore.ConnectTimeout, timeout)
        return _DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, left), self._end)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(end: float, over: type[httpcore.TimeoutException], timeout: float | None = None) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise over("the time is over")
    return left if timeout is None else min(left, timeout)


def _addresses(host: str, port: int, seconds: float) -> list[str]:
    """Resolve the name, and wait no longer than that: the system's resolver knows no time-out of ours."""
    found: SimpleQueue[list[Any] | OSError | UnicodeError] = SimpleQueue()

    def resolve() -> None:
        try:
            found.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as fault:
            found.put(fault)

    threading.Thread(target=resolve, daemon=True).start()
    try:
        answer = found.get(timeout=seconds)
    except Empty:
        raise httpcore.ConnectTimeout(f"the name {host} was not resolved in time") from None
    if isinstance(answer, OSError | UnicodeError):
        raise httpcore.ConnectError(str(answer)) from answer
    return list(dict.fromkeys(str(entry[4][0]) for entry in answer))
