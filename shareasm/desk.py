"""Desk: what desk.toml and the environment say about accounts, sources, people and the database."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal, TypeVar, get_args
from urllib.parse import urlsplit
from zoneinfo import available_timezones

from dotenv import dotenv_values

from shareasm.errors import ConfigError
from shareasm.text import did_you_mean, nearest

Role = Literal["viewer", "author", "approver", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
"""From the one who only reads to the one who may do everything."""

Login = Literal["none", "oidc"]

BLUESKY = "https://bsky.social"
X = "https://api.x.com"
JETSTREAM = "wss://jetstream.us-east.bsky.network/xrpc"
DEFAULT_SERVERS = {"bluesky": BLUESKY, "x": X}

DESK_TOML = """\
# The desk: its database, its accounts, where it listens and who may do what.
# Secrets never stand here: see .env.example.
database = "sqlite:///desk.db"        # or "postgresql+psycopg://desk@db.example.org/desk"
organisation = "Our organisation"
time_zone = "Europe/London"

[accounts.rehearsal]                  # the desk's own network: nothing leaves this machine
network = "practice"
handle = "asm-desk"

# [accounts.org-bluesky]
# network = "bluesky"
# handle = "example.org"

# [accounts.org-mastodon]
# network = "mastodon"
# server = "https://mastodon.social"
# handle = "example"

# [accounts.org-x]
# network = "x"
# handle = "example"
# monthly_budget = 50                 # dollars; not kept yet: set a spending limit in X's own console too

[[listen]]
network = "practice"

# [[listen]]
# network = "bluesky"                 # needs no credentials
# server = "wss://jetstream.us-east.bsky.network/xrpc"
# protocol = "jetstream"

# [[listen]]
# network = "mastodon"                # needs none where the server shows public timelines
# server = "https://mastodon.social"

# [[listen]]
# network = "x"
# account = "org-x"

[dashboard]
login = "none"                        # loopback only; or "oidc" with [dashboard.oidc]

[people]                              # empty: whoever sits at this machine is admin
# "ana@example.org" = "approver"      # viewer, author, approver, admin
"""

ENV_EXAMPLE = """\
# Copy to .env beside desk.toml, then: chmod 600 .env
# One line per secret: SHAREASM_<ACCOUNT>_<FIELD>, the account as in desk.toml, in capitals, with _ for -.

# Bluesky: an app password (Settings, Privacy and security, App passwords), never the main one
# SHAREASM_ORG_BLUESKY_PASSWORD=

# Mastodon: the token of an application with read:statuses, write:statuses and write:media
# SHAREASM_ORG_MASTODON_ACCESS_TOKEN=

# X: the four keys of an app with read and write permission, and a bearer token to listen
# SHAREASM_ORG_X_API_KEY=
# SHAREASM_ORG_X_API_SECRET=
# SHAREASM_ORG_X_ACCESS_TOKEN=
# SHAREASM_ORG_X_ACCESS_SECRET=
# SHAREASM_ORG_X_BEARER_TOKEN=
"""

_T = TypeVar("_T")
_ACCOUNT_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_SECRET_KEY = re.compile(r"password|token|secret|(api|private)_?key", re.IGNORECASE)
_TOML_LINE = re.compile(r" \(at line (\d+), column \d+\)$")
_KINDS = {str: "a text in quotes", float: "a number", list: "a list", dict: "a table"}


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """Our login on one network, as desk.toml names it. `options` are for the network's own file."""

    name: str
    network: str
    handle: str
    server: str = ""
    monthly_budget: float | None = None
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ListenSettings:
    """One place where the desk listens. `account` lends its login where reading needs one."""

    network: str
    server: str = ""
    protocol: str = ""
    account: str = ""


@dataclass(frozen=True, slots=True)
class DashboardSettings:
    """How people come in. `oidc` holds the provider's public settings; its secrets come from the environment."""

    login: Login = "none"
    oidc: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Desk:
    """Everything that desk.toml says, checked. `database` is an address with an absolute path."""

    folder: Path
    database: str
    organisation: str = ""
    time_zone: str = "UTC"
    accounts: Mapping[str, AccountSettings] = field(default_factory=dict)
    listen: tuple[ListenSettings, ...] = ()
    dashboard: DashboardSettings = field(default_factory=DashboardSettings)
    people: Mapping[str, Role] = field(default_factory=dict)

    @property
    def networks(self) -> dict[str, str]:
        """Return each account's network, by the account's name."""
        return {name: account.network for name, account in self.accounts.items()}

    def sources(self) -> tuple[ListenSettings, ...]:
        """Return where the desk listens: what `[[listen]]` says, and each account's own place where it says nothing.

        X is listened to only where `[[listen]]` says so, because reading there costs money.
        """
        found = list(self.listen)
        for account in self.accounts.values():
            own = _own_source(account)
            if own is not None and not any(_covers(listen, own) for listen in found):
                found.append(own)
        return tuple(dict.fromkeys(found))


def read_desk(folder: Path) -> Desk:
    """Read desk.toml of this folder. Raise ConfigError with the key and what to do about it."""
    folder = folder.resolve()
    top = read_toml(folder / "desk.toml", "desk.toml", missing="Run `shareasm init` to make one.")
    accounts = {name: _account(name, table) for name, table in top.tables("accounts").items()}
    desk = Desk(
        folder=folder,
        database=top.checked("database", _database(folder), top.text("database", "sqlite:///desk.db")),
        organisation=top.text("organisation", ""),
        time_zone=top.checked("time_zone", known_zone, top.text("time_zone", "UTC")),
        accounts=accounts,
        listen=tuple(_listen(table, accounts) for table in top.table_list("listen")),
        dashboard=_dashboard(top.table("dashboard")),
        people=_people(top.table("people")),
    )
    top.refuse_the_rest()
    return desk


def secret(desk: Desk, account: str, field: str) -> str:
    """Return a secret of the account: from the environment, else .env, else the OS keyring.

    Raise ConfigError, naming the variable, when none of them has it, and when others can read .env.
    """
    variable = secret_name(account, field)
    value = os.environ.get(variable) or _from_dotenv(desk.folder / ".env", variable) or _from_keyring(variable)
    if not value:
        raise ConfigError(
            f"{account} has no {field.lower().replace('_', ' ')}.",
            f"Set {variable} in the environment or in .env beside desk.toml, or run `shareasm account add {account}`.",
        )
    return value


def secret_name(account: str, field: str) -> str:
    """Return the name under which the environment, .env and the keyring hold this secret."""
    return f"SHAREASM_{account}_{field}".upper().replace("-", "_")


def keep_secret(account: str, field: str, value: str) -> None:
    """Put a secret into the OS keyring. Raise ConfigError where the machine has none."""
    import keyring
    from keyring.errors import KeyringError

    variable = secret_name(account, field)
    try:
        keyring.set_password("shareasm", variable, value)
    except KeyringError as error:
        raise ConfigError(
            "This machine has no keyring that takes a secret.", f"Write {variable} into .env and run `chmod 600 .env`."
        ) from error


def forget_secret(account: str, field: str) -> None:
    """Take a secret out of the OS keyring; one that is not there is no error."""
    import keyring
    from keyring.errors import KeyringError, PasswordDeleteError

    try:
        keyring.delete_password("shareasm", secret_name(account, field))
    except PasswordDeleteError:
        return
    except KeyringError:
        return  # no keyring, so nothing is kept there


def role_of(desk: Desk, person: str) -> Role | None:
    """Return what this person may do; None for somebody who is not on the list.

    With nobody on the list the desk belongs to whoever sits at the machine: an admin.
    """
    if not desk.people:
        return "admin"
    return desk.people.get(person.strip().casefold())


def known_zone(name: str) -> str:
    """Return the name of a time zone. Raise ConfigError, with the nearest one, when there is none of this name."""
    if name not in _zones():
        near = nearest(name, _zones()) or "Europe/London"
        raise ConfigError(f"“{name}” is not a time zone.", f"Did you mean “{near}”?")
    return name


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())  # it walks the disk each time it is asked


class TomlTable:
    """One table of a TOML file, whose keys are taken out by type; what is left over is refused by name."""

    def __init__(self, values: Mapping[str, object], where: str, path: str = "") -> None:
        self.where = where
        self.path = path
        self._values = dict(values)
        self._asked: list[str] = []

    def names(self) -> list[str]:
        """Return the keys that are there."""
        return list(self._values)

    def has(self, key: str) -> bool:
        """Return True when the key is there."""
        return key in self._values

    def text(self, key: str, default: str | None = None) -> str:
        """Return a text. Raise ConfigError when it is missing and there is no default."""
        value = self._take(key, str, default)
        if value is None:
            raise self.mistake(key, "is missing.", "Add it.")
        return value

    def number(self, key: str) -> float | None:
        """Return a number that is not negative, or None."""
        value = self._values.get(key)
        self._asked.append(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise self.mistake(key, "must be a number, not below zero.")
        return float(value)

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts; empty when the key is not there."""
        values: list[object] = self._take(key, list, []) or []
        if not all(isinstance(value, str) for value in values):
            raise self.mistake(key, "must be a list of texts in quotes.")
        return tuple(str(value) for value in values)

    def one_of(self, key: str, choices: tuple[str, ...], default: str) -> str:
        """Return one of the choices."""
        value = self.text(key, default)
        if value not in choices:
            raise self.mistake(key, f"“{value}” is not known.", did_you_mean(value, choices))
        return value

    def table(self, key: str) -> TomlTable:
        """Return a table; an empty one when the key is not there."""
        return TomlTable(self._take(key, dict, {}) or {}, self.where, self._path(key))

    def tables(self, key: str) -> dict[str, TomlTable]:
        """Return the tables inside a table, by name."""
        outer = self.table(key)
        return {name: outer.table(name) for name in outer.names()}

    def table_list(self, key: str) -> list[TomlTable]:
        """Return a list of tables, as `[[key]]` writes it."""
        values: list[object] = self._take(key, list, []) or []
        if not all(isinstance(value, dict) for value in values):
            raise self.mistake(key, f"must be written as [[{key}]].")
        return [
            TomlTable(value, self.where, f"{self._path(key)}[{n}]")
            for n, value in enumerate(values, 1)
            if isinstance(value, dict)
        ]

    def value(self, key: str) -> object:
        """Return whatever stands there, or None."""
        self._asked.append(key)
        return self._values.get(key)

    def values(self) -> dict[str, object]:
        """Return everything as it stands; no key is unknown here."""
        self._asked += self._values
        return dict(self._values)

    def checked(self, key: str, check: Callable[[str], _T], value: str) -> _T:
        """Return what `check` makes of the value; what it refuses is told of this key."""
        try:
            return check(value)
        except ConfigError as error:
            raise self.mistake(key, error.happened, error.what_to_do) from error

    def refuse_the_rest(self) -> None:
        """Raise ConfigError for the first key that nobody asked for."""
        for key in self._values:
            if key in self._asked:
                continue
            if _SECRET_KEY.search(key):
                raise self.mistake(key, "is a secret, and secrets never stand in a file that others read.", "See .env.")
            raise self.mistake(key, "is not known.", did_you_mean(key, self._asked))

    def mistake(self, key: str, happened: str, what_to_do: str = "") -> ConfigError:
        """Return the error that names this key."""
        return ConfigError(f"key {self._path(key)} {happened}", what_to_do, where=self.where)

    def _take(self, key: str, kind: type[_T], default: _T | None) -> _T | None:
        self._asked.append(key)
        value = self._values.get(key, default)
        if value is not None and not isinstance(value, kind):
            raise self.mistake(key, f"must be {_KINDS[kind]}.")
        return value

    def _path(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key


def read_toml(file: Path, where: str, *, missing: str) -> TomlTable:
    """Read a TOML file. Raise ConfigError when it is missing or broken, with the line."""
    try:
        return parse_toml(file.read_bytes(), where)
    except FileNotFoundError as error:
        raise ConfigError(f"There is no {file.name} in {file.parent}.", missing) from error
    except OSError as error:
        raise ConfigError(
            f"{file.name} cannot be read: {error.strerror}.", "Look at its rights.", where=where
        ) from error


def parse_toml(content: bytes, where: str) -> TomlTable:
    """Return the table that these bytes of a TOML file write. Raise ConfigError with the line."""
    try:
        return TomlTable(tomllib.loads(content.decode("utf-8-sig").replace("\r\n", "\n")), where)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError("This is not UTF-8.", "Save the file as UTF-8.", where=f"{where}:{line}") from error
    except tomllib.TOMLDecodeError as error:
        at = _TOML_LINE.search(str(error))
        line = int(at[1]) if at else content.count(b"\n") + 1
        words = _TOML_LINE.sub("", str(error)).removesuffix(" (at end of document)")
        raise ConfigError(
            f"This line is not TOML: {words}.", "Compare it with docs.", where=f"{where}:{line}"
        ) from error
    except RecursionError as error:
        raise ConfigError("This is nested too deeply.", "Take some brackets away.", where=where) from error


def _account(name: str, table: TomlTable) -> AccountSettings:
    if not _ACCOUNT_NAME.fullmatch(name):
        raise ConfigError(f"key {table.path}: an account is named in small letters, digits and “-”.", where=table.where)
    network = table.text("network")
    account = AccountSettings(
        name=name,
        network=network,
        handle=table.text("handle").removeprefix("@"),
        server=_server(table, network),
        monthly_budget=table.number("monthly_budget"),
        options=table.table("options").values(),
    )
    table.refuse_the_rest()
    return account


def _listen(table: TomlTable, accounts: Mapping[str, AccountSettings]) -> ListenSettings:
    network = table.text("network")
    account = table.text("account", "")
    if account and account not in accounts:
        raise table.mistake("account", f"names “{account}”, which is no account.", did_you_mean(account, accounts))
    if account and accounts[account].network != network:
        raise table.mistake("account", f"“{account}” is on {accounts[account].network}, not on {network}.")
    lent = accounts[account].server if account else ""
    protocol = ""
    if network == "bluesky":
        protocol = table.one_of("protocol", ("jetstream", "firehose"), "jetstream")
        lent = JETSTREAM if protocol == "jetstream" else ""
    listen = ListenSettings(
        network=network,
        server=_server(table, network, lent),
        protocol=protocol or table.text("protocol", ""),
        account=account,
    )
    table.refuse_the_rest()
    return listen


def _server(table: TomlTable, network: str, default: str = "") -> str:
    server = table.text("server", default or DEFAULT_SERVERS.get(network, ""))
    if not server and network == "mastodon":
        raise table.mistake(
            "server", "is missing: on Mastodon every account lives on a server.", "Add its https address."
        )
    return table.checked("server", _address, server) if server else ""


def _address(server: str) -> str:
    if "@" in server:
        raise ConfigError(
            "holds a login, and secrets never stand here.", "Set it in the environment: see .env.example."
        )
    try:
        parts = urlsplit(server)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in {"http", "https", "ws", "wss"} or not parts.hostname:
        raise ConfigError(f"“{server}” is not an address.", "Write it as https://mastodon.social.")
    if parts.scheme in {"http", "ws"} and not _is_loopback(parts.hostname):
        raise ConfigError(f"“{server}” is not encrypted.", f"Write {parts.scheme}s://.")
    return server.rstrip("/")


def _is_loopback(host: str) -> bool:
    return host in {"localhost", "::1"} or host.startswith("127.") or host.endswith(".localhost")


def _dashboard(table: TomlTable) -> DashboardSettings:
    login: Login = "oidc" if table.one_of("login", get_args(Login), "none") == "oidc" else "none"
    oidc = table.table("oidc")
    names = ("client_id", "server_metadata_url", "redirect_uri")
    settings = {name: oidc.text(name, "" if login == "none" else None) for name in names}
    oidc.refuse_the_rest()
    table.refuse_the_rest()
    return DashboardSettings(login, {name: value for name, value in settings.items() if value})


def _people(table: TomlTable) -> dict[str, Role]:
    people: dict[str, Role] = {}
    for person in table.names():
        role = table.one_of(person, ROLES, "viewer")
        people[person.strip().casefold()] = next(known for known in ROLES if known == role)
    return people


def _database(folder: Path) -> Callable[[str], str]:
    def resolved(url: str) -> str:
        scheme, _, rest = url.partition("://")
        if scheme == "sqlite":
            return _sqlite(rest, folder)
        if scheme.partition("+")[0] not in {"postgresql", "postgres"} or not rest:
            raise ConfigError(f"“{scheme}” is no database that the desk knows.", "Write sqlite:///desk.db.")
        if ":" in rest.rpartition("@")[0] and not rest.rpartition("@")[0].endswith(":"):
            raise ConfigError("holds a password, and secrets never stand here.", "Set PGPASSWORD or write ~/.pgpass.")
        return f"postgresql+psycopg://{rest}"

    return resolved


def _sqlite(rest: str, folder: Path) -> str:
    path, question, options = rest.removeprefix("/").partition("?")
    if not rest.startswith("/") or not path or path == ":memory:":
        raise ConfigError("names no file, and worker and dashboard need one between them.", "Write sqlite:///desk.db.")
    return f"sqlite:///{(folder / path).resolve()}{question}{options}"


def _own_source(account: AccountSettings) -> ListenSettings | None:
    """Return where an account's own network is heard when nobody said where, or None."""
    if account.network == "practice":
        return ListenSettings("practice", account.server)
    if account.network == "mastodon":
        return ListenSettings("mastodon", account.server, account=account.name)
    if account.network != "bluesky":
        return None
    if _is_public_bluesky(account.server):
        return ListenSettings("bluesky", JETSTREAM, "jetstream")
    return ListenSettings("bluesky", re.sub(r"^http", "ws", account.server), "firehose")


def _covers(listen: ListenSettings, own: ListenSettings) -> bool:
    if listen.network != own.network:
        return False
    if own.protocol == "jetstream":  # any Jetstream, and the relay, carry all of public Bluesky
        return listen.protocol == "jetstream" or _is_public_bluesky(listen.server)
    return re.sub(r"^http", "ws", listen.server) == re.sub(r"^http", "ws", own.server)


def _is_public_bluesky(server: str) -> bool:
    host = urlsplit(server).hostname or ""
    return any(host == name or host.endswith(f".{name}") for name in ("bsky.social", "bsky.network"))


def _from_dotenv(file: Path, variable: str) -> str | None:
    try:
        mode = file.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigError("Others on this machine can read .env.", f"Run `chmod 600 {file}`.", where=str(file))
    return dotenv_values(file, interpolate=False).get(variable)


def _from_keyring(variable: str) -> str | None:
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        return None
    try:
        return keyring.get_password("shareasm", variable)
    except KeyringError:  # a server has none, or it is locked: the other ways must do
        return None


def keep_session(desk: Desk, account: str, name: str, text: str) -> None:
    """Keep something of a login between runs, readable by this user only: logins are scarce on some networks."""
    file = _session_file(desk, account, name)
    file.parent.mkdir(mode=0o700, exist_ok=True)
    new = file.with_suffix(".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        opened.write(text)
    new.replace(file)


def kept_session(desk: Desk, account: str, name: str) -> str | None:
    """Return what `keep_session` kept, or None. A file that others may read is not trusted."""
    file = _session_file(desk, account, name)
    try:
        if file.stat().st_mode & 0o077:
            return None
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def forget_sessions(desk: Desk, account: str) -> None:
    """Take everything away that was kept of an account's logins."""
    for file in (desk.folder / ".sessions").glob(f"{account}.*"):
        file.unlink()


def _session_file(desk: Desk, account: str, name: str) -> Path:
    return desk.folder / ".sessions" / f"{account}.{name}"
