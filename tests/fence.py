"""Fence: no test leaves loopback. What tries to is refused, and the test that tried fails even if it swallowed that."""

import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch


class LeftLoopback(BaseException):
    """A test reached for an address beyond loopback. No OSError: our own code must not take it for a network's."""


@contextmanager
def raised() -> Iterator[list[str]]:
    """Refuse connections and look-ups beyond loopback. Yield the list of what was tried."""
    tried: list[str] = []

    def refuse(what: str) -> None:
        tried.append(what)
        raise LeftLoopback(what)

    def guarded(connect: Any) -> Any:
        def call(self: socket.socket, address: Any) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(address[0]):
                self.close()
                refuse(f"connect to {address}")
            return connect(self, address)

        return call

    def look_up(host: Any, *rest: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name and not _is_address(name) and not _is_loopback(name):
            if name.endswith(".invalid"):  # a name that exists nowhere needs no question
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            refuse(f"look up {name}")
        return getaddrinfo(host, *rest, **options)

    getaddrinfo = socket.getaddrinfo
    with (
        patch.object(socket.socket, "connect", guarded(socket.socket.connect)),
        patch.object(socket.socket, "connect_ex", guarded(socket.socket.connect_ex)),
        patch.object(socket, "getaddrinfo", look_up),
    ):
        yield tried


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


def _is_loopback(name: str) -> bool:
    return ipaddress.ip_address(name.partition("%")[0]).is_loopback if _is_address(name) else name == "localhost"
