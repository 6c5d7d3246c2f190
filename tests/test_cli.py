"""The commands: what each does, what it prints as data, and how it ends."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest

from shareasm.cli import COMMANDS, shareasm
from shareasm.desk import DESK_TOML
from tests.desks import PRACTICE, DeskFolder, until
from tests.servers import ROOT
from tests.servers.bluesky import Pds

TOMORROW = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=20)
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


@pytest.fixture
def desk(tmp_path: Path) -> DeskFolder:
    """A desk on the practice network, with a campaign of two posts, not synced yet."""
    made = DeskFolder(tmp_path / "desk").desk_toml(PRACTICE).campaign()
    made.post("one", TOMORROW, "One #shareASM\n---\nAnd more")
    made.post("two", TOMORROW + timedelta(hours=1), "Deux #shareASM", lang="fr")
    return made


@pytest.fixture
def planned(desk: DeskFolder) -> DeskFolder:
    """The same desk, all approved."""
    desk.good("plan", "sync")
    desk.good("plan", "approve", "--all", "--by", "Ana")
    return desk


def shape(value: Any) -> Any:
    """Return keys and types: `moment` for a time in RFC 3339 and UTC."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    if isinstance(value, str) and MOMENT.fullmatch(value):
        return "moment"
    return type(value).__name__


def commands(group: click.Command = shareasm, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield every command by the words that call it."""
    yield path
    if isinstance(group, click.Group):
        context = click.Context(group)
        for name in group.list_commands(context):
            inner = group.get_command(context, name)
            assert inner is not None
            yield from commands(inner, (*path, name))


def states(desk: DeskFolder) -> dict[str, str]:
    """Return the state of each delivery."""
    return {row["id"]: row["state"] for row in desk.good("plan", "list", "--json").json}


# ── Help, globals, exit codes ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
@pytest.mark.parametrize("word", ["--help", "-h"])
def test_every_command_has_its_help(tmp_path: Path, path: tuple[str, ...], word: str) -> None:
    helped = DeskFolder(tmp_path).call(*path, word)
    assert (helped.code, helped.err) == (0, "")
    assert helped.out.startswith(f"Usage: {' '.join(('shareasm', *path))}")


def test_every_command_of_the_list_is_there() -> None:
    for name, (_, line) in COMMANDS.items():
        command = shareasm.get_command(click.Context(shareasm), name)
        assert command is not None
        assert command.name == name
        assert line.endswith(".")


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    look = (
        "import sys\nfrom shareasm.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "print(sorted(name for name in sys.modules if '.' not in name), file=sys.stderr)\n"
    )
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", look],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    heavy = {
        "pandas",
        "numpy",
        "sqlalchemy",
        "alembic",
        "streamlit",
        "altair",
        "tweepy",
        "atproto",
        "apscheduler",
        "PIL",
    }
    loaded = set(json.loads(done.stderr.replace("'", '"')))
    assert "click" in loaded
    assert (
        loaded & (heavy | {"msgspec", "regex", "httpx", "httpcore", "websockets", "keyring", "psycopg", "jinja2"})
        == set()
    )


def test_globals_may_stand_anywhere(planned: DeskFolder, tmp_path: Path) -> None:
    elsewhere = DeskFolder(tmp_path)
    last = elsewhere.run("plan", "list", "--desk", str(planned.folder), "--json")
    first = elsewhere.run("--json", f"--desk={planned.folder}", "plan", "list")
    assert last.code == first.code == 0
    assert last.json == first.json
    by_environment = DeskFolder(tmp_path, {"SHAREASM_DESK": str(planned.folder)}).run("plan", "list", "--json")
    assert by_environment.json == first.json


def test_without_a_command_the_help_is_shown(tmp_path: Path) -> None:
    done = DeskFolder(tmp_path).run()
    assert done.code == 0
    assert done.out.startswith("Usage: shareasm")


def test_the_version_is_told(tmp_path: Path) -> None:
    assert DeskFolder(tmp_path).good("--version").out == "shareasm, version 0.1.0\n"


def test_data_is_the_only_thing_on_the_output(planned: DeskFolder) -> None:
    by = ("--by", "Ana", "--why", "x")
    for command in (
        ("plan", "sync"), ("plan", "list"), ("check",), ("status",), ("account", "list"), ("db", "rebuild"),
        ("account", "test", "rehearsal"), ("collect", "day", "--once"), ("measure", "day"),
        ("report", "day", "--to", str(planned.folder)), ("plan", "pause", *by), ("plan", "resume", *by),
        ("plan", "cancel", "two.fr", *by),
    ):  # fmt: skip
        done = planned.call(*command, "--json")
        assert done.code in {0, 1}, (command, done)
        json.loads(done.out)


# ── A new desk ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_new_desk_works_and_a_second_init_touches_nothing(tmp_path: Path) -> None:
    desk = DeskFolder(tmp_path / "new")
    made = desk.good("init", str(desk.folder))
    assert (desk.folder / "desk.toml").read_text(encoding="utf-8") == DESK_TOML
    assert f"Wrote {desk.folder / '.env.example'}\n" in made.out
    before = {path: path.read_bytes() for path in desk.folder.rglob("*") if path.is_file() and path.name != "desk.db"}
    (desk.folder / "desk.toml").write_text("organisation = 'Ours'\n")
    (desk.folder / ".env.example").unlink()
    again = desk.good("init", str(desk.folder))
    assert [line for line in again.out.splitlines() if line.startswith("Wrote")] == [
        f"Wrote {desk.folder}/.env.example"
    ]
    after = {path: path.read_bytes() for path in before}
    assert after == before | {desk.folder / "desk.toml": b"organisation = 'Ours'\n"}


def test_the_example_day_has_no_error(tmp_path: Path) -> None:
    desk = DeskFolder(tmp_path)
    desk.good("init", str(tmp_path))
    checked = desk.good("check", "--json").json
    assert checked["posts"] >= 24
    assert [one for one in checked["problems"] if one["level"] == "error"] == []


# ── The plan ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_plan_as_data(planned: DeskFolder) -> None:
    rows = planned.good("plan", "list", "--json").json
    assert [row["id"] for row in rows] == ["day/one.en/rehearsal/1", "day/one.en/rehearsal/2", "day/two.fr/rehearsal/1"]
    assert {json.dumps(shape(row)) for row in rows} == {
        json.dumps(
            {
                "id": "str", "post": "str", "campaign": "str", "account": "str", "network": "str", "part": "int",
                "text": "str", "language": "str", "due": "moment", "state": "str", "remote_id": "NoneType",
                "remote_url": "NoneType", "sent_at": "NoneType", "late_seconds": "NoneType", "tries": "int",
                "reason": "str",
            }
        )
    }  # fmt: skip
    assert rows[0]["due"] == TOMORROW.isoformat().replace("+00:00", "Z")
    assert (rows[2]["text"], rows[2]["language"], rows[2]["state"]) == ("Deux #shareASM", "fr", "scheduled")


def test_what_is_out_has_its_receipt_in_the_plan(desk: DeskFolder) -> None:
    desk.post("one", datetime.now(UTC) + timedelta(seconds=2), "Now #shareASM")
    desk.good("plan", "sync")
    desk.good("plan", "approve", "one", "--by", "Ana")
    with desk.worker() as running, desk.store() as store:
        until(lambda: store.queue.counts().get("published"), running)
    [row] = [row for row in desk.good("plan", "list", "day", "--json").json if row["state"] == "published"]
    assert shape(row) | {"remote_url": "any"} == {
        "id": "str", "post": "str", "campaign": "str", "account": "str", "network": "str", "part": "int",
        "text": "str", "language": "str", "due": "moment", "state": "str", "remote_id": "str", "remote_url": "any",
        "sent_at": "moment", "late_seconds": "float", "tries": "int", "reason": "str",
    }  # fmt: skip
    assert (row["tries"], row["reason"]) == (1, "")
    assert 0 <= row["late_seconds"] < 10


def test_a_sync_says_what_is_new_and_changed(desk: DeskFolder) -> None:
    first = desk.good("plan", "sync", "--json").json
    assert first == [
        {
            "campaign": "day", "new": ["one.en", "two.fr"], "changed": [], "unchanged": 0, "missing": [],
            "conflicts": [], "problems": [],
        }
    ]  # fmt: skip
    desk.post("one", TOMORROW, "Changed #shareASM")
    (desk.plan() / "two.md").unlink()
    second = desk.good("plan", "sync", "--json").json[0]
    assert (second["new"], second["changed"], second["missing"]) == ([], ["one.en"], ["two.fr"])


def test_posts_are_approved_by_message_by_post_and_by_delivery(desk: DeskFolder) -> None:
    desk.post("three", TOMORROW, "Three #shareASM")
    desk.good("plan", "sync")
    assert set(states(desk).values()) == {"in_review"}
    approved = desk.good("plan", "approve", "one", "two.fr", "day/three.en/rehearsal/1", "--by", "Ana", "--json").json
    assert {row["post"]: row["deliveries"] for row in approved["approved"]} == {"one.en": 2, "two.fr": 1, "three.en": 1}
    assert set(states(desk).values()) == {"scheduled"}


def test_a_post_or_a_delivery_is_cancelled(planned: DeskFolder) -> None:
    planned.good("plan", "cancel", "day/one.en/rehearsal/2", "two.fr", "--by", "Ana", "--why", "not today")
    assert states(planned) == {
        "day/one.en/rehearsal/1": "scheduled",
        "day/one.en/rehearsal/2": "cancelled",
        "day/two.fr/rehearsal/1": "cancelled",
    }
    [row] = [row for row in planned.good("plan", "list", "--json").json if row["id"] == "day/two.fr/rehearsal/1"]
    assert row["reason"] == "Ana: not today"


@pytest.mark.parametrize(
    ("scope", "switch"),
    [
        ((), ("all", "")),
        (("--campaign", "scheduled_posts/day"), ("campaign", "day")),
        (("--network", "practice"), ("network", "practice")),
        (("--account", "rehearsal"), ("account", "rehearsal")),
        (("--language", "fr"), ("language", "fr")),
    ],
)
def test_a_pause_is_seen_and_lifted(planned: DeskFolder, scope: tuple[str, ...], switch: tuple[str, str]) -> None:
    planned.good("plan", "pause", *scope, "--by", "Ana", "--why", "bad news")
    [seen] = planned.call("status", "--json").json["switches"]
    assert (seen["scope"], seen["key"], seen["by"], seen["reason"]) == (*switch, "Ana", "bad news")
    assert MOMENT.fullmatch(seen["at"])
    planned.good("plan", "resume", *scope, "--by", "Ana", "--why", "over")
    assert planned.call("status", "--json").json["switches"] == []


def test_what_is_not_paused_cannot_be_released(planned: DeskFolder) -> None:
    done = planned.call("plan", "send", "day/two.fr/rehearsal/1", "--by", "Ana", "--why", "now")
    assert done.refusal == (
        "error: day/two.fr/rehearsal/1 is scheduled; it cannot be changed so. See `shareasm plan list`."
    )


@pytest.mark.parametrize(
    "name", ["day", "#shareASM today", "#shareasm TODAY", "scheduled_posts/day", "scheduled_posts/day/"]
)
def test_a_campaign_is_named_by_folder_by_name_or_by_path(planned: DeskFolder, name: str) -> None:
    assert len(planned.good("plan", "list", name, "--json").json) == 3
    assert planned.good("plan", "sync", name, "--json").json[0]["campaign"] == "day"
    assert planned.good("check", name, "--json").json["posts"] == 2
    assert planned.good("measure", name, "mentions", "--json").json["campaign"] == "day"


def test_which_campaign_is_asked_only_where_there_are_several(planned: DeskFolder) -> None:
    planned.campaign("other")
    planned.good("plan", "sync")
    assert planned.call("measure").refusal in {
        "error: Which campaign? Name one of day, other.", "error: Which campaign? Name one of other, day."
    }  # fmt: skip


# ── Status, measure, report ──────────────────────────────────────────────────────────────────────────────────────────


def test_the_status_as_data(planned: DeskFolder) -> None:
    planned.good("collect", "day", "--once")
    done = planned.call("status", "--json")
    assert done.code == 1  # the worker does not run, and posts wait
    told = done.json
    wanted = {
        "worker": {"alive": "bool", "seen_at": "NoneType"},
        "deliveries": {"scheduled": "int"},
        "next": {"id": "str", "due": "moment"},
        "sources": [
            {
                "network": "str", "server": "str", "hashtag": "str", "state": "str", "complete_until": "moment",
                "lag_seconds": "int", "gaps": [],
            }
        ],
        "switches": [],
        "problems": ["str"],
    }  # fmt: skip
    found = shape(told)
    for part, inner in wanted.items():
        if isinstance(inner, dict):
            assert found[part] | inner == found[part], part
        elif part == "sources":
            assert found[part][0] | inner[0] == found[part][0]
        else:
            assert found[part] == inner, part
    assert told["deliveries"] == {"scheduled": 3}
    assert told["next"]["id"] == "day/one.en/rehearsal/1"
    assert told["sources"][0]["hashtag"] == "#shareASM"


def test_a_desk_at_rest_needs_nobody(desk: DeskFolder) -> None:
    assert desk.good("status", "--json").json["problems"] == []
    assert desk.good("status").out == "worker: not running (seen never)\ndeliveries: none\nnext: nothing is scheduled\n"


def test_measures_as_data(planned: DeskFolder) -> None:
    unknown = planned.good("measure", "day", "--json").json
    assert unknown["measures"]["mentions"]["value"] is None  # nobody listened: unknown, never 0
    planned.good("collect", "day", "--once")
    told = planned.good("measure", "day", "mentions", "reach", "--json").json
    assert set(told) == {"campaign", "as_of", "measures"}
    assert MOMENT.fullmatch(told["as_of"])
    assert list(told["measures"]) == ["mentions", "reach"]
    for measure in told["measures"].values():
        assert set(measure) == {"version", "value", "unit", "coverage", "definition"}
        assert isinstance(measure["version"], int)
        assert measure["definition"].endswith(".")
        assert measure["coverage"]["words"]
    assert isinstance(told["measures"]["mentions"]["value"]["total"], int)


def test_measures_as_words(planned: DeskFolder) -> None:
    planned.good("collect", "day", "--once")
    lines = planned.good("measure", "day", "mentions").out.splitlines()
    assert lines[0].startswith("mentions@1: total ")
    assert lines[-1].startswith("Coverage: ")


def test_a_report_is_written(planned: DeskFolder) -> None:
    planned.good("collect", "day", "--once")
    folder = planned.folder / "out"
    written = planned.good("report", "day", "--to", str(folder), "--json").json
    assert written == {"campaign": "day", "files": [str(folder / "report.html")]}
    assert "#shareASM today" in (folder / "report.html").read_text(encoding="utf-8")


# ── Collect and import ───────────────────────────────────────────────────────────────────────────────────────────────


def test_one_sweep_brings_all_and_a_second_nothing_new(desk: DeskFolder, pds: Pds) -> None:
    ana = pds.create_account("ana")
    uri = pds.create_record(ana, "From Bluesky #shareASM")["uri"]
    desk.desk_toml(f'[[listen]]\nnetwork = "bluesky"\nserver = "{pds.ws_url}"\nprotocol = "firehose"\n')
    (desk.plan() / "one.md").unlink()
    (desk.plan() / "two.md").unlink()
    desk.good("plan", "sync")
    first = desk.good("collect", "day", "--once", "--json").json
    [source] = first["sources"]
    assert shape(first) == {
        "campaign": "str",
        "sources": [
            {
                "network": "str", "server": "str", "error": "NoneType", "read": "int", "new": "int", "known": "int",
                "changed": "int", "refused": "int",
            }
        ],
    }  # fmt: skip
    assert source["new"] >= 1
    assert desk.good("collect", "day", "--once", "--json").json["sources"][0]["new"] == 0
    again = desk.good("collect", "day", "--once", "--since", "2020-01-01", "--json").json["sources"][0]
    assert again["new"] == 0
    assert again["known"] + again["changed"] >= 1
    with desk.store() as store:
        newest = store.conversation.newest(store.campaigns.id_of("day"), limit=500)
        assert [one.native_id for one in newest].count(uri) == 1


def test_a_source_that_the_worker_reads_is_left_to_it(desk: DeskFolder) -> None:
    desk.good("plan", "sync")
    with desk.worker() as running, desk.store() as store:
        until(lambda: [one.state for one in store.sources.states()] == ["complete"], running)
        sentence = (
            "The worker collects from practice practice already. What it has is in the desk; stop it to read anew."
        )
        swept = desk.call("collect", "day", "--once")
        assert (swept.code, swept.out) == (1, f"practice practice: {sentence}\n")
        assert desk.call("collect", "day", "--once", "--since", "2020-01-01").refusal == f"error: {sentence}"


def test_collecting_goes_on_until_it_is_stopped(desk: DeskFolder) -> None:
    desk.good("plan", "sync")
    with desk.running("collect", "day") as running, desk.store() as store:
        until(lambda: [one.state for one in store.sources.states()] == ["complete"], running)
        assert running.stop(within=10) == 0


def test_an_import_counts_what_it_read(desk: DeskFolder) -> None:
    desk.good("plan", "sync")
    record = {"$type": "app.bsky.feed.post", "text": "Old #shareASM", "createdAt": "2025-06-15T15:06:40Z"}
    commit = {"operation": "create", "rev": "1", "collection": "app.bsky.feed.post", "cid": "bafy", "record": record}
    lines = [
        json.dumps(
            {
                "did": "did:plc:ana",
                "time_us": 1750000000000000 + n,
                "kind": "commit",
                "commit": {**commit, "rkey": str(n)},
            }
        )
        for n in range(3)
    ]
    archive = desk.folder / "old.jsonl"
    archive.write_text("\n".join([*lines, '{"did": ']) + "\n")
    done = desk.call("import", str(archive), "--campaign", "day", "--json")
    assert done.code == 1
    told = done.json
    assert shape(told) == {
        "format": "str", "files": ["str"], "read": "int", "new": "int", "known": "int", "changed": "int",
        "refused": "int", "problems": [{"file": "str", "line": "int", "why": "str"}],
    }  # fmt: skip
    assert told["read"] == told["new"] + told["known"] + told["changed"] + told["refused"] == 4
    assert told["new"] == 3
    assert desk.call("import", str(archive), "--json").json["new"] == 0


# ── Accounts ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_account_is_added_tested_and_removed(desk: DeskFolder, pds: Pds) -> None:
    account = pds.create_account("desk")
    words = ("account", "add", "org-bluesky", "--network", "bluesky", "--server", pds.url, "--handle", account.handle)
    added = desk.call(*words, stdin=f"{account.password}\n")
    assert added.code == 1  # no keyring on this machine: the account is there, its secret is not
    assert added.out.splitlines() == [
        "Wrote [accounts.org-bluesky] into desk.toml.",
        "This machine has no keyring that takes a secret. Write SHAREASM_ORG_BLUESKY_PASSWORD into .env and run"
        " `chmod 600 .env`.",
        "Try it with `shareasm account test org-bluesky`.",
    ]
    assert account.password not in (desk.folder / "desk.toml").read_text(encoding="utf-8") + added.out + added.err
    (desk.folder / ".env").write_text(f"SHAREASM_ORG_BLUESKY_PASSWORD={account.password}\n")
    (desk.folder / ".env").chmod(0o600)
    tested = desk.good("account", "test", "org-bluesky", "--json").json
    assert tested == {"name": "org-bluesky", "handle": account.handle, "id": account.did, "server": pds.url}
    assert [row["name"] for row in desk.good("account", "list", "--json").json] == ["rehearsal", "org-bluesky"]
    assert list((desk.folder / ".sessions").iterdir())
    assert desk.good("account", "remove", "org-bluesky").out == "Removed org-bluesky.\n"
    assert list((desk.folder / ".sessions").iterdir()) == []
    assert [row["name"] for row in desk.good("account", "list", "--json").json] == ["rehearsal"]
    assert (desk.folder / "desk.toml").read_text(
        encoding="utf-8"
    ).rstrip() == f'database = "sqlite:///desk.db"\n{PRACTICE}'.rstrip()


def test_nothing_typed_is_no_secret(desk: DeskFolder) -> None:
    added = desk.call("account", "add", "org-bluesky", "--network", "bluesky", "--handle", "iied.org", stdin="\n")
    assert added.code == 1
    assert "SHAREASM_ORG_BLUESKY_PASSWORD is not kept: nothing was typed.\n" in added.out


def test_an_account_that_would_break_desk_toml_is_not_written(desk: DeskFolder) -> None:
    before = (desk.folder / "desk.toml").read_bytes()
    for words in (
        ("org-new", "--network", "blusky", "--handle", "a"),
        ("Org New", "--network", "bluesky", "--handle", "a"),
        ("org-new", "--network", "bluesky", "--handle", "a", "--server", "http://example.org"),
        ("org-new",),
    ):
        assert desk.call("account", "add", *words).refusal
    assert (desk.folder / "desk.toml").read_bytes() == before


def test_an_account_with_waiting_posts_is_not_removed(planned: DeskFolder) -> None:
    refusal = planned.call("account", "remove", "rehearsal").refusal
    assert refusal == "error: Posts still wait to go out on rehearsal. Cancel them first: `shareasm plan cancel`."


def test_an_account_that_a_source_listens_with_is_not_removed(desk: DeskFolder) -> None:
    listen = '[[listen]]\nnetwork = "practice"\naccount = "rehearsal"\n'
    desk.desk_toml(PRACTICE + listen)
    before = (desk.folder / "desk.toml").read_bytes()
    refusal = desk.call("account", "remove", "rehearsal").refusal
    assert refusal.startswith("error: desk.toml: key listen[1].account names “rehearsal”, which is no account.")
    assert (desk.folder / "desk.toml").read_bytes() == before


# ── The database ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_tables_are_brought_up_to_date_once(tmp_path: Path) -> None:
    desk = DeskFolder(tmp_path).desk_toml(PRACTICE)
    assert desk.good("db", "upgrade").out.startswith("Applied ")
    assert desk.good("db", "upgrade").out == "The tables are up to date.\n"


def test_a_rebuild_finds_every_rollup_right(planned: DeskFolder) -> None:
    planned.good("collect", "day", "--once")
    assert planned.good("db", "rebuild", "day").out == "day: every rollup was right.\n"
    assert all(n == 0 for n in planned.good("db", "rebuild", "--json").json["day"].values())
