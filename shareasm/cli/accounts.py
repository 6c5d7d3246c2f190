"""Accounts: add, list, test and remove our logins. Secrets never go into desk.toml."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click

from shareasm.cli.session import Session

FIELDS = {
    "practice": (),
    "bluesky": ("PASSWORD",),
    "mastodon": ("ACCESS_TOKEN",),
    "x": ("API_KEY", "API_SECRET", "ACCESS_TOKEN", "ACCESS_SECRET"),
}


@click.group("account")
def account_command() -> None:
    """Add, list, test and remove accounts."""


@account_command.command("add")
@click.argument("name")
@click.option("--network", help="The network, when desk.toml does not name the account yet.")
@click.option("--handle", default="", help="Our handle there.")
@click.option("--server", default="", help="The server, where there are many.")
@click.pass_obj
def add_command(session: Session, name: str, network: str | None, handle: str, server: str) -> int:
    """Write an account into desk.toml when it is new, and ask for its secrets (or read them from standard input)."""
    from shareasm import networks
    from shareasm.errors import ConfigError
    from shareasm.text import did_you_mean

    known = session.desk.accounts.get(name)
    if known is None:
        if network is None:
            raise ConfigError(f"desk.toml has no account “{name}” yet.", "Say which --network it is on.")
        if network not in networks.names():
            raise ConfigError(f"There is no network “{network}”.", did_you_mean(network, networks.names()))
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
            raise ConfigError(f"“{name}” is no name for an account.", "Use small letters, digits and -.")
        _write(session, name, network, handle, server)
    else:
        network = known.network
    unkept = [words for field in FIELDS.get(network, ()) if (words := _keep(session, name, field))]
    for words in unkept:
        session.say(words)
    session.say(f"Try it with `shareasm account test {name}`.")
    return 1 if unkept else 0


def _keep(session: Session, name: str, field: str) -> str:
    """Ask for one secret and keep it. Return in words why it is not kept, or nothing."""
    from shareasm.desk import keep_secret, secret_name
    from shareasm.errors import ConfigError

    value = _ask(f"{name}: {field.lower().replace('_', ' ')}")
    if not value:
        return f"{secret_name(name, field)} is not kept: nothing was typed."
    try:
        keep_secret(name, field, value)
    except ConfigError as error:
        return str(error)
    session.say(f"Kept {secret_name(name, field)} in the keyring.")
    return ""


@account_command.command("list")
@click.pass_obj
def list_command(session: Session) -> None:
    """List the accounts that desk.toml names."""
    rows = [
        {"name": a.name, "network": a.network, "handle": a.handle, "server": a.server}
        for a in session.desk.accounts.values()
    ]
    if session.as_json:
        session.data(rows)
    else:
        session.table(("account", "network", "handle", "server"), [list(row.values()) for row in rows])


@account_command.command("test")
@click.argument("name")
@click.pass_obj
def test_command(session: Session, name: str) -> None:
    """Ask the network who we are there. Nothing is posted."""
    from shareasm.model import WorldClock
    from shareasm.worker import open_account

    identity = open_account(session.desk, name, WorldClock()).identity()
    if session.as_json:
        session.data({"name": name, "handle": identity.handle, "id": identity.native_id, "server": identity.server})
    session.say(f"{name} is {identity.handle} ({identity.native_id}) on {identity.server}. {identity.words}".rstrip())


@account_command.command("remove")
@click.argument("name")
@click.pass_obj
def remove_command(session: Session, name: str) -> None:
    """Forget an account's secrets and sessions, and take it out of desk.toml."""
    from shareasm.desk import forget_secret, forget_sessions
    from shareasm.errors import ConfigError, StateError
    from shareasm.model import UNDER_WAY, DeliveryState

    known = session.desk.accounts.get(name)
    if known is None:
        raise ConfigError(f"desk.toml has no account “{name}”.", "See `shareasm account list`.")
    waits = {DeliveryState.SCHEDULED, *UNDER_WAY}
    if any(d.account == name and d.state in waits for d in session.store.queue.all()):
        raise StateError(f"Posts still wait to go out on {name}.", "Cancel them first: `shareasm plan cancel`.")
    _cut(session, name)
    for field in FIELDS.get(known.network, ()):
        forget_secret(name, field)
    forget_sessions(session.desk, name)
    session.say(f"Removed {name}.")


def _ask(words: str) -> str:
    if sys.stdin.isatty():
        return click.prompt(words, hide_input=True, default="", show_default=False)
    return sys.stdin.readline().strip()


def _write(session: Session, name: str, network: str, handle: str, server: str) -> None:
    lines = [f"[accounts.{name}]", f'network = "{_toml(network)}"']
    lines += [f'{key} = "{_toml(value)}"' for key, value in (("server", server), ("handle", handle)) if value]
    before = _desk_toml(session).read_text(encoding="utf-8")
    _replace(session, before, before.rstrip("\n") + "\n\n" + "\n".join(lines) + "\n")
    session.say(f"Wrote [accounts.{name}] into desk.toml.")


def _cut(session: Session, name: str) -> None:
    """Take the account's table out of desk.toml and leave every other line as it was typed."""
    before = _desk_toml(session).read_text(encoding="utf-8")
    kept: list[str] = []
    inside = False
    for line in before.splitlines(keepends=True):
        if line.lstrip().startswith("["):
            inside = re.match(rf"\s*\[accounts\.\"?{re.escape(name)}\"?[\].]", line) is not None
        if not inside:
            kept.append(line)
    _replace(session, before, "".join(kept))


def _replace(session: Session, before: str, after: str) -> None:
    """Write desk.toml anew. What was good stays good: a mistake is told, and the file is as it was."""
    from shareasm.desk import read_desk
    from shareasm.errors import DeskError

    file = _desk_toml(session)
    _put(file, after)
    try:
        read_desk(session.desk.folder)
    except DeskError:
        _put(file, before)
        raise


def _put(file: Path, words: str) -> None:
    """Put the whole new file in place of the old one: a full disk must not leave half a desk.toml."""
    new = file.with_name(f"{file.name}.new")
    new.write_text(words, encoding="utf-8")
    new.chmod(file.stat().st_mode)
    new.replace(file)


def _desk_toml(session: Session) -> Path:
    return session.desk.folder / "desk.toml"


def _toml(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
