"""Desks: a desk in a folder of its own, and the commands as processes, as a person runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

from PIL import Image

from shareasm.cli import main
from shareasm.store import Store, open_store
from tests.servers import ROOT

_T = TypeVar("_T")

PRACTICE = """
[accounts.rehearsal]
network = "practice"
handle = "asm-desk"
[accounts.rehearsal.options]
audience = 12
mood = "quiet"
"""
_NOW = datetime.now(UTC).replace(microsecond=0, tzinfo=None)
CAMPAIGN = f"""\
name = "#shareASM today"
hashtags = ["shareASM"]
variants = ["shareASM2015"]
look_alikes = ["shareASMarkdown"]
start = {(_NOW - timedelta(minutes=20)).isoformat()}
end = {(_NOW + timedelta(days=1)).isoformat()}
time_zone = "UTC"
"""


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed as data."""
        return json.loads(self.out)

    @property
    def refusal(self) -> str:
        """The one line of a command that refused, which printed nothing else."""
        assert (self.code, self.out) == (2, ""), self
        assert self.err.count("\n") == 1, self.err
        return self.err.rstrip("\n")


@dataclass
class Running:
    """A command that runs."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def words(self) -> str:
        """What it has said so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def kill(self) -> None:
        """End it with kill -9, as a power cut would."""
        self.process.kill()
        self.process.wait(10)

    def stop(self, number: signal.Signals = signal.SIGTERM, within: float = 30) -> int:
        """Send the signal, wait, and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(within)


@dataclass
class DeskFolder:
    """A desk: its folder, and the secrets in its environment."""

    folder: Path
    secrets: Mapping[str, str] = field(default_factory=dict)

    def desk_toml(self, words: str, database: str = "sqlite:///desk.db") -> DeskFolder:
        """Write desk.toml and return the desk."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "desk.toml").write_text(f'database = "{database}"\n{words}', encoding="utf-8")
        return self

    def campaign(self, folder: str = "day", words: str = CAMPAIGN) -> DeskFolder:
        """Write a campaign.toml and return the desk."""
        (self.plan(folder) / "media").mkdir(parents=True, exist_ok=True)
        (self.plan(folder) / "campaign.toml").write_text(words, encoding="utf-8")
        return self

    def plan(self, folder: str = "day") -> Path:
        """Return a campaign's folder."""
        return self.folder / "scheduled_posts" / folder

    def post(self, name: str, due: datetime | str, body: str, folder: str = "day", **keys: str) -> Path:
        """Write a post file; `keys` are further lines of its front matter."""
        moment = due if isinstance(due, str) else due.isoformat(timespec="seconds")
        lines = {"id": name, "publish_at": moment, "lang": "en", "status": "ready", **keys}
        head = "".join(f"{key}: {value}\n" for key, value in lines.items() if value)
        file = self.plan(folder) / f"{name}.md"
        file.write_text(f"---\n{head}---\n{body}\n", encoding="utf-8")
        return file

    def picture(self, name: str, colour: str = "orange", folder: str = "day") -> None:
        """Put a small picture into the campaign's media."""
        Image.new("RGB", (64, 48), colour).save(self.plan(folder) / "media" / name)

    def run(self, *words: str, stdin: str = "", within: float = 60) -> Done:
        """Run a command to its end."""
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-m", "shareasm", *words],
            cwd=self.folder, env=self._environment(), input=stdin, capture_output=True, text=True, timeout=within,
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    def call(self, *words: str, stdin: str = "") -> Done:
        """Run a command to its end in this process: the same words, without the start of a Python."""
        out, err, code = StringIO(), StringIO(), 0
        with (
            patch.dict(os.environ, self._environment(), clear=True),
            patch.object(sys, "stdin", StringIO(stdin)),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            try:
                main(["--desk", str(self.folder), *words])
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
        return Done(code, out.getvalue(), err.getvalue())

    def good(self, *words: str) -> Done:
        """Run a command that must succeed."""
        done = self.call(*words)
        assert done.code == 0, done
        return done

    @contextmanager
    def running(self, *words: str) -> Iterator[Running]:
        """Start a command; what still runs at the end is ended, by its own process alone."""
        log = self.folder / f"log-{time.monotonic_ns()}.txt"
        with log.open("wb") as out:
            process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-m", "shareasm", *words],
                cwd=self.folder, env=self._environment(), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            )  # fmt: skip
        started = Running(process, log)
        try:
            yield started
        finally:
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                started.kill()
            assert "Traceback" not in started.words, started.words

    @contextmanager
    def worker(self) -> Iterator[Running]:
        """Run the worker, and wait until it lives."""
        with self.running("worker") as running, self.store() as store:
            until(lambda: running.process.pid in {one.pid for one in store.workers.all()}, running)
            yield running

    @contextmanager
    def store(self) -> Iterator[Store]:
        """Open the desk's database beside its processes."""
        from shareasm.desk import read_desk

        opened = open_store(read_desk(self.folder).database)
        try:
            yield opened
        finally:
            opened.close()

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SHAREASM_")}
        return (
            kept
            | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", "PYTHONWARNINGS": "error"}
            | dict(self.secrets)
        )


def until(answer: Callable[[], _T], running: Running | None = None, within: float = 30) -> _T:
    """Ask again and again until the answer is something, and return it; fail with what the process said."""
    end = time.monotonic() + within
    while not (value := answer()):
        ended = running is not None and running.process.poll() is not None
        said = running.words if running else ""
        assert not ended, f"It ended by itself: {said}"
        assert time.monotonic() < end, f"It did not come within {within:g} s: {said}"
        time.sleep(0.05)
    return value
