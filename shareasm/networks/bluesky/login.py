"""Login: one session for as long as it lasts."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from shareasm.errors import ConfigError, LoginNeeded, Unreachable
from shareasm.networks import Setting
from shareasm.networks.bluesky import NETWORK
from shareasm.networks.bluesky.xrpc import Answer, AnswerLost, Server


class _Session(msgspec.Struct, frozen=True):
    """A login as it is kept: for whom and where, and the two tokens."""

    login: str
    server: str
    did: str
    handle: str
    access: str
    refresh: str


class Login:
    """Our session: kept between runs, renewed when it is over, made anew only where renewing is refused.

    New sessions are scarce (100 to 300 a day), and two renewals at once would lock the account out: so one at a time,
    the kept session is read again before each, and the new tokens are kept before they are used.
    """

    def __init__(self, setting: Setting, server: Server) -> None:
        self._setting, self._server = setting, server
        self._name = setting.handle.lstrip("@")
        self._lock = threading.Lock()

    def did(self) -> str:
        """Return who we are on Bluesky, without asking anybody. Raise ConfigError where no answer ever told it."""
        if self._name.startswith("did:"):
            return self._name
        if kept := self._kept():
            return kept.did
        words = f"The desk does not know yet who “{self._name}” is on Bluesky."
        raise ConfigError(words, f"Run `shareasm account test {self._setting.name}`.", where=self._setting.name)

    def session(self, end: float) -> _Session:
        """Return the kept session, or log in. Raise NetworkError or ConfigError."""
        with self._alone(end):
            return self._kept() or self._log_in(end)

    def renewed(self, old: _Session, end: float) -> _Session:
        """Return the session that follows the old one. Raise NetworkError or ConfigError."""
        with self._alone(end):
            kept = self._kept()
            if kept is not None and kept.access != old.access:
                return kept  # somebody else was faster
            answer = self._ask(end, "com.atproto.server.refreshSession", token=old.refresh)
            if answer.status in (400, 401):
                return self._log_in(end)  # the refresh token is dead
            return self._keep(answer)

    def _log_in(self, end: float) -> _Session:
        body = msgspec.json.encode({"identifier": self._name, "password": self._setting.secret("PASSWORD")})
        answer = self._ask(end, "com.atproto.server.createSession", body)
        if answer.status in (400, 401):
            raise self._refused(answer)
        return self._keep(answer)

    def _refused(self, answer: Answer) -> LoginNeeded:
        variable = "SHAREASM_" + re.sub(r"\W", "_", self._setting.name).upper() + "_PASSWORD"
        happened = f"Bluesky does not accept the password of “{self._name}”."
        if answer.error != "AuthenticationRequired":
            happened = f"Bluesky does not let “{self._name}” in: {answer.words}."
        return LoginNeeded(
            happened, f"Put an app password into {variable}.", network=NETWORK, account=self._setting.name
        )

    def _ask(self, end: float, method: str, body: bytes = b"", *, token: str = "") -> Answer:
        try:
            return self._server.call(end, "POST", method, body=body, token=token)
        except AnswerLost as lost:
            # Here it is a plain fault: whatever became of the login, no post was on its way.
            raise Unreachable(lost.happened, lost.what_to_do, network=NETWORK, account=lost.account) from lost

    def _keep(self, answer: Answer) -> _Session:
        self._server.hold(answer)
        names = ("did", "handle", "accessJwt", "refreshJwt")
        did, handle, access, refresh = (answer.text(name) for name in names)
        if not (did and access and refresh):
            raise self._server.unreadable(answer)
        session = _Session(self._name, self._server.base, did, handle, access, refresh)
        self._setting.save("session", msgspec.json.encode(session).decode())
        return session

    def _kept(self) -> _Session | None:
        try:
            kept = msgspec.json.decode(self._setting.load("session") or "null", type=_Session | None)
        except msgspec.DecodeError:
            return None  # an older desk kept it in another form: log in again
        is_ours = kept is not None and (kept.login, kept.server) == (self._name, self._server.base)
        return kept if is_ours else None

    @contextmanager
    def _alone(self, end: float) -> Iterator[None]:
        if not self._lock.acquire(timeout=max(0.0, end - time.monotonic())):
            raise Unreachable("The login took too long.", network=NETWORK, account=self._setting.name)
        try:
            yield
        finally:
            self._lock.release()
