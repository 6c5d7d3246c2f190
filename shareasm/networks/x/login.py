"""Login: the keys of a request, and OAuth 2 tokens that rotate without ever being lost between two of us."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import msgspec

from shareasm.errors import ConfigError, LoginNeeded, Unreachable
from shareasm.networks import Setting
from shareasm.networks.x import NETWORK
from shareasm.networks.x.line import Answer, AnswerLost, Bearer, Keys, Server, UserKeys

EARLY = timedelta(seconds=60)
"""A token that ends within this is renewed before it is used: a post should not begin with a refusal."""
LOCK_SECONDS = 0.05
SHORTEST, LONGEST = 60, 86_400


class _Tokens(msgspec.Struct, frozen=True):
    """OAuth 2 tokens as they are kept. `seed` names the refresh token that a person gave us, without telling it."""

    seed: str
    access: str
    refresh: str
    ends_at: datetime


class Login:
    """Our keys: OAuth 1.0a where its four secrets are there, else OAuth 2 with a refresh token.

    X takes each refresh token once. So one refresh at a time, in all processes of the machine; the kept tokens are read
    again before it, and the new ones are kept before they are used.
    """

    def __init__(self, setting: Setting, server: Server) -> None:
        self._setting, self._server = setting, server
        self._lock = threading.Lock()

    def keys(self, end: float) -> Keys:
        """Return what signs the next request. Raise ConfigError or NetworkError."""
        keys = self._user_keys()
        if keys is not None:
            return keys
        tokens = self._kept()
        if tokens is None or self._is_over(tokens):
            tokens = self._renew(tokens.access if tokens else "", end)
        return Bearer(tokens.access)

    def renewed(self, old: Keys, end: float) -> Keys | None:
        """Return the keys that follow those that X refused, or None where they cannot be renewed."""
        return Bearer(self._renew(old.token, end).access) if isinstance(old, Bearer) else None

    def fingerprint(self) -> str:
        """Return a name for whose keys these are, which tells nothing of them."""
        keys = self._user_keys()
        return _digest(keys.api_key, keys.access_token) if keys else self._seed()

    def _user_keys(self) -> UserKeys | None:
        secret = self._setting.secret
        try:
            return UserKeys(*(secret(name) for name in ("API_KEY", "API_SECRET", "ACCESS_TOKEN", "ACCESS_SECRET")))
        except ConfigError:
            if self._optional("CLIENT_ID"):
                return None
            raise

    def _optional(self, field: str) -> str:
        try:
            return self._setting.secret(field)
        except ConfigError:
            return ""

    def _seed(self) -> str:
        return _digest(self._setting.secret("CLIENT_ID"), self._setting.secret("REFRESH_TOKEN"))

    def _is_over(self, tokens: _Tokens) -> bool:
        return self._setting.clock.now() >= tokens.ends_at - EARLY

    def _renew(self, refused: str, end: float) -> _Tokens:
        """Return tokens that are not those that were refused; somebody else may have them already."""
        with self._alone(end):
            kept = self._kept()
            if kept is not None and kept.access != refused and not self._is_over(kept):
                return kept
            return self._keep(self._ask(kept.refresh if kept else self._setting.secret("REFRESH_TOKEN"), end), kept)

    def _ask(self, refresh: str, end: float) -> Answer:
        client, client_secret = self._setting.secret("CLIENT_ID"), self._optional("CLIENT_SECRET")
        form = {"grant_type": "refresh_token", "refresh_token": refresh, "client_id": client}
        try:
            return self._server.ask_token(end, form, (client, client_secret) if client_secret else None)
        except AnswerLost as lost:
            # Here it is a plain fault: whatever became of the tokens, no post was on its way.
            raise Unreachable(lost.happened, lost.what_to_do, network=NETWORK, account=lost.account) from lost

    def _keep(self, answer: Answer, old: _Tokens | None) -> _Tokens:
        if answer.status in (400, 401, 403) and answer.is_from_x:
            happened = f"X does not take the refresh token of “{self._setting.name}”: {answer.words}."
            what_to_do = "Let the account's owner log in again and set the new REFRESH_TOKEN."
            raise LoginNeeded(happened, what_to_do, network=NETWORK, account=self._setting.name)
        self._server.hold(answer)
        access, refresh = answer.text("access_token"), answer.text("refresh_token")
        if not access:
            raise self._server.unreadable(answer)
        told = answer.json.get("expires_in")
        seconds = min(max(told, SHORTEST), LONGEST) if isinstance(told, int) else SHORTEST * 30
        tokens = _Tokens(
            seed=self._seed(),
            access=access,
            refresh=refresh or (old.refresh if old else self._setting.secret("REFRESH_TOKEN")),
            ends_at=self._setting.clock.now() + timedelta(seconds=seconds),
        )
        self._setting.save("tokens", msgspec.json.encode(tokens).decode())
        return tokens

    def _kept(self) -> _Tokens | None:
        try:
            kept = msgspec.json.decode(self._setting.load("tokens") or "null", type=_Tokens | None)
        except msgspec.DecodeError:
            return None  # an older desk kept them in another form
        return kept if kept is not None and kept.seed == self._seed() else None

    @contextmanager
    def _alone(self, end: float) -> Iterator[None]:
        """Hold the tokens alone among all threads and processes of the machine, or raise Unreachable at `end`."""
        folder = self._setting.folder / ".sessions"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._lock.acquire(timeout=max(0.0, end - time.monotonic())):
            raise self._too_long()
        try:
            file = os.open(folder / f"{self._setting.name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                while not _is_locked(file):
                    if time.monotonic() >= end:
                        raise self._too_long()
                    time.sleep(LOCK_SECONDS)
                yield
            finally:
                os.close(file)  # the system lets go of the lock with it, also when its holder dies
        finally:
            self._lock.release()

    def _too_long(self) -> Unreachable:
        return Unreachable("The login took too long.", network=NETWORK, account=self._setting.name)


def _is_locked(file: int) -> bool:
    """Take the lock if nobody has it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
