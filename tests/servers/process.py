"""Process: a server as a child of the tests, which says in one line of JSON when it is ready."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import ServerError


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that nobody holds at this moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


class Process:
    """A command that can be started, killed and started again with the same arguments."""

    def __init__(
        self, command: Sequence[str], *, log: Path, cwd: Path, env: Mapping[str, str] | None = None, patience: int = 90
    ) -> None:
        self.command, self.log, self.cwd, self.patience = list(command), log, cwd, patience
        self.env = {**os.environ, **(env or {})}
        self.child: subprocess.Popen[Any] | None = None

    def start(self) -> dict[str, Any]:
        """Start the command and return its line with `"ready"`. Raise ServerError with its output if none comes."""
        with self.log.open("wb") as out:
            options = {"cwd": self.cwd, "env": self.env, "stdin": subprocess.DEVNULL, "stdout": out, "stderr": out}
            self.child = child = subprocess.Popen(self.command, **options)  # noqa: S603
        end = time.monotonic() + self.patience
        while time.monotonic() < end:
            ended = child.poll() is not None
            for line in self.log.read_text(errors="replace").splitlines():
                if line.startswith("{") and '"ready"' in line:
                    return json.loads(line)
            if ended:
                break
            time.sleep(0.02)
        self.kill()
        raise ServerError(f"{' '.join(self.command[:3])} did not start: {self.log.read_text(errors='replace')[-2000:]}")

    def kill(self) -> None:
        """End it with kill -9, as a power cut would. A process that has ended stays ended."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ask it to end, and end it after ten seconds."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self.child is None:
            return
        self.child.send_signal(how)
        try:
            self.child.wait(10)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        self.child = None
