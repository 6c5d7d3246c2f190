"""Running: the worker, the dashboard, and both together."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from shareasm.cli.session import Session

if TYPE_CHECKING:
    from pathlib import Path

    from shareasm.desk import Desk

LOCAL = "127.0.0.1"
ANSWERS_WITHIN_SECONDS = 30.0

PORT = click.option(
    "--port", type=click.IntRange(1, 65535), default=8501, show_default=True, help="The dashboard's port."
)
HOST = click.option("--host", default=LOCAL, show_default=True, help="The address to listen on.")


@click.command("worker")
@click.pass_obj
def worker_command(session: Session) -> None:
    """Publish what is due and collect what is said, until stopped. An edit of desk.toml needs a new start."""
    from shareasm.worker import Worker

    log_to_stderr(session)
    worker = Worker(session.desk, session.store)
    session.tell(f"The worker runs for {', '.join(session.desk.accounts) or 'no account'}. Ctrl-C stops it.")
    with until_stopped(worker.stopping):
        worker.run()


@click.command("dashboard")
@PORT
@HOST
@click.pass_obj
def dashboard_command(session: Session, port: int, host: str) -> int:
    """Show the dashboard. It never posts and never schedules."""
    session.store.database  # noqa: B018 - a database that cannot be opened is told here, not on a page
    with until_stopped() as stopped, Dashboard(session.desk, port, host) as dashboard:
        if not dashboard.answers(stopped):
            return _told_why(session, stopped)
        session.tell(f"The dashboard is on {dashboard.address}. Ctrl-C stops it.")
        dashboard.wait(stopped)
        return _told_why(session, stopped)


@click.command("up")
@PORT
@HOST
@click.pass_obj
def up_command(session: Session, port: int, host: str) -> int:
    """Run worker and dashboard together; one Ctrl-C ends both, and so does the end of one of them."""
    from shareasm.worker import Worker

    log_to_stderr(session)
    worker = Worker(session.desk, session.store)
    with until_stopped(worker.stopping) as stopped, Dashboard(session.desk, port, host) as dashboard:
        watch = threading.Thread(target=_end_with, args=(dashboard, worker.stopping), daemon=True)
        watch.start()
        session.tell(f"The desk will be on {dashboard.address} in a moment. Ctrl-C ends worker and dashboard.")
        worker.run()
        if dashboard.has_ended and not stopped():
            return _told_why(session, stopped)
    return 0


class Dashboard:
    """The dashboard as a process of its own, which ends when this one does."""

    def __init__(self, desk: Desk, port: int, host: str) -> None:
        self._desk, self._port, self._host = desk, port, host
        self.address = f"http://{'localhost' if host == LOCAL else f'[{host}]' if ':' in host else host}:{port}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Dashboard:
        import os

        _refuse_an_open_door(self._desk, self._host)
        _refuse_a_taken_port(self._host, self._port)
        app = _app()
        words = ["streamlit", "run", str(app), "--server.port", str(self._port), "--server.address", self._host]
        words += ["--logger.level", "warning"]
        self._process = subprocess.Popen(  # noqa: S603 - our own program and our own words
            [sys.executable, "-m", "shareasm.cli.beside", *words],
            env=os.environ | {"SHAREASM_DESK": str(self._desk.folder)},
            cwd=app.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        return self

    def __exit__(self, *_: object) -> None:
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin is not None:
            process.stdin.close()

    @property
    def has_ended(self) -> bool:
        """Return True when its process is gone."""
        return self._process is None or self._process.poll() is not None

    def answers(self, stopped: Stopped) -> bool:
        """Wait until it answers. Return False when it ended, or did not answer in time, or we are stopped."""
        import socket

        end = time.monotonic() + ANSWERS_WITHIN_SECONDS
        while not self.has_ended and not stopped() and time.monotonic() < end:
            try:
                socket.create_connection((self._host, self._port), timeout=1).close()
            except OSError:
                stopped.wait(0.1)
            else:
                return True
        return False

    def wait(self, stopped: Stopped) -> None:
        """Wait until it ends, or we are stopped."""
        while not self.has_ended and not stopped.wait(0.2):
            pass


class Stopped:
    """Whether somebody stopped us: Ctrl-C or SIGTERM. The event, where there is one, is set with it."""

    def __init__(self, event: threading.Event | None) -> None:
        self.event = event or threading.Event()
        self._by_signal = False

    def __call__(self) -> bool:
        """Return True once a signal came."""
        return self._by_signal

    def set(self, *_: object) -> None:
        """Note the signal."""
        self._by_signal = True
        self.event.set()

    def wait(self, seconds: float) -> bool:
        """Wait so long, or until stopped; return whether we are."""
        self.event.wait(seconds)
        return self._by_signal


@contextmanager
def until_stopped(event: threading.Event | None = None) -> Iterator[Stopped]:
    """Let Ctrl-C and SIGTERM end the work in good order: they set the event and nothing else."""
    stopped = Stopped(event)
    before = {s: signal.signal(s, stopped.set) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def log_to_stderr(session: Session) -> None:
    """Let the worker's log go to the error stream."""
    import logging

    level = logging.INFO if session.debug else logging.ERROR if session.quiet else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(message)s")
    for loud in ("apscheduler", "httpx", "httpcore", "tweepy", "urllib3", "websockets", "atproto"):
        logging.getLogger(loud).setLevel(max(logging.WARNING, level))  # their debug lines hold keys


def _end_with(dashboard: Dashboard, stopping: threading.Event) -> None:
    while not stopping.wait(0.5):
        if dashboard.has_ended:
            stopping.set()


def _told_why(session: Session, stopped: Stopped) -> int:
    """Say that the dashboard ended by itself, where nobody stopped it. Return the exit code."""
    if stopped():
        return 0
    session.tell("The dashboard ended by itself; its words stand above.")
    return 1


def _refuse_an_open_door(desk: Desk, host: str) -> None:
    import ipaddress

    from shareasm.errors import ConfigError

    try:
        is_local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError as error:
        raise ConfigError(f"“{host}” is no address of this machine.", "Write an IP address, as 127.0.0.1.") from error
    if is_local:
        return
    if desk.dashboard.login == "none":
        raise ConfigError(
            f"The dashboard would be open to everybody on {host}.",
            "Set up a login under [dashboard] in desk.toml, or leave --host out.",
        )
    raise ConfigError("This version of the dashboard cannot ask for a login yet.", "Leave --host out.")


def _refuse_a_taken_port(host: str, port: int) -> None:
    import errno
    import socket

    from shareasm.errors import ConfigError

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ConfigError(f"Port {port} is taken.", f"Name another one: --port {_next(port)}.") from error
            words = f"The dashboard cannot listen on {host}, port {port}: {error.strerror}."
            raise ConfigError(words, "Name an address of this machine, and a port above 1023.") from error


def _next(port: int) -> int:
    return port + 1 if port < 65535 else 8501


def _app() -> Path:
    from importlib.util import find_spec
    from pathlib import Path

    from shareasm.errors import ConfigError

    found = find_spec("dashboards")
    for place in (found.submodule_search_locations if found else None) or ():
        return Path(place) / "app.py"
    raise ConfigError("The dashboard is not installed.", "Install the whole desk again.")
