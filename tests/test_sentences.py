"""The sentences: whatever goes wrong, a person reads what happened and what to do, and nothing is lost by it."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.desks import PRACTICE, DeskFolder
from tests.servers.bluesky import Pds
from tests.servers.process import free_ports

TOMORROW = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=20)
PLACE = "scheduled_posts/day"


@pytest.fixture
def desk(tmp_path: Path) -> DeskFolder:
    """A desk with the practice network, a campaign, a picture, and one good post."""
    made = DeskFolder(tmp_path).desk_toml(PRACTICE).campaign()
    made.picture("lamps.png")
    made.post("good", TOMORROW, "Good news #shareASM")
    return made


def bluesky(folder: Path, server: str, handle: str, password: str) -> DeskFolder:
    """Make a desk with one Bluesky account."""
    words = f'[accounts.org-bluesky]\nnetwork = "bluesky"\nserver = "{server}"\nhandle = "{handle}"\n'
    return DeskFolder(folder, {"SHAREASM_ORG_BLUESKY_PASSWORD": password}).desk_toml(words).campaign()


def assert_only_the_good_post_goes_out(desk: DeskFolder, *, drafts: tuple[str, ...]) -> None:
    """Approve all: the good post becomes a delivery, the others wait as drafts and none is lost."""
    approved = desk.good("plan", "approve", "--all", "--by", "Ana", "--json").json
    assert [row["post"] for row in approved["approved"]] == ["good.en"]
    states = {row["post"]: row["state"] for row in desk.good("plan", "list", "--json").json}
    assert states == {"good.en": "scheduled", **dict.fromkeys(drafts, "draft")}


# ── The desk ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_desk_here(tmp_path: Path) -> None:
    assert DeskFolder(tmp_path).call("status").refusal == (
        f"error: There is no desk.toml in {tmp_path}. Run `shareasm init` to make one."
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ('databse = "x"', "desk.toml: key databse is not known. Did you mean “database”?"),
        ('[accounts.a]\nnetwork = "practice"\nhandel = "b"\nhandle = "c"',
         "desk.toml: key accounts.a.handel is not known. Did you mean “handle”?"),
        ('[accounts.a]\nnetwork = "bluesky"\nhandle = "b"\npassword = "s3cret"',
         "desk.toml: key accounts.a.password is a secret, and secrets never stand in a file that others read."),
        ('[dashboard]\nlogin = "oicd"', "desk.toml: key dashboard.login “oicd” is not known. Did you mean “oidc”?"),
        ("[accounts.x", "desk.toml:2: This line is not TOML: Expected ']' at the end of a table declaration."),
        ('time_zone = "Europe/Londn"',
         "desk.toml: key time_zone “Europe/Londn” is not a time zone. Did you mean “Europe/London”?"),
    ],
)  # fmt: skip
def test_a_mistake_in_desk_toml(tmp_path: Path, words: str, sentence: str) -> None:
    refusal = DeskFolder(tmp_path).desk_toml(words).call("status").refusal
    assert refusal.startswith(f"error: {sentence}")
    assert "s3cret" not in refusal
    assert not (tmp_path / "desk.db").exists()


def test_a_network_that_there_is_not(tmp_path: Path) -> None:
    words = '[accounts.org]\nnetwork = "blusky"\nhandle = "iied"\n'
    refusal = DeskFolder(tmp_path).desk_toml(words).call("account", "test", "org").refusal
    assert refusal.startswith("error: There is no network “blusky”. Known are bluesky, ")


def test_a_database_that_is_none(desk: DeskFolder) -> None:
    (desk.folder / "desk.db").write_bytes(b"this is no database" * 1000)
    assert desk.call("status").refusal.startswith(f"error: {desk.folder}/desk.db is not a whole database.")
    assert (desk.folder / "desk.db").read_bytes() == b"this is no database" * 1000


# ── The plan ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("due", "body", "keys", "sentence"),
    [
        (TOMORROW, "A lamp #shareASM", {"media": "[{file: lamps.png}]"},
         "bad.md:6: lamps.png has no alt text for en. Say what it shows."),
        (TOMORROW, "A lamp #shareASM", {"media": '[{file: lamp.png, alt: "A lamp"}]'},
         "bad.md:6: media/lamp.png is not there. Look at its name."),
        (TOMORROW, "x" * 500 + " #shareASM", {},
         "bad.md:7: 510 of 500 for Practice. Shorten it or add `## en / practice`."),
        (TOMORROW, "A word #shareASM", {"accounts": "[rehersal]"},
         "bad.md:6: There is no account “rehersal” in desk.toml. Did you mean “rehearsal”?"),
    ],
)  # fmt: skip
def test_a_post_with_a_mistake_stays_at_home(
    desk: DeskFolder, due: datetime, body: str, keys: dict[str, str], sentence: str
) -> None:
    desk.post("bad", due, body, **keys)
    for command in (("plan", "sync"), ("check",)):
        done = desk.call(*command)
        assert (done.code, done.err) == (1, "")
        assert f"error: {PLACE}/{sentence}\n" in done.out
    assert_only_the_good_post_goes_out(desk, drafts=("bad.en",))


@pytest.mark.parametrize(
    ("due", "sentence"),
    [
        ("2027-03-28T01:30",
         "01:30 on 28 March 2027 does not exist in Europe/London: the clocks jump from 01:00 on 28 March 2027"
         " to 02:00 on 28 March 2027. Write 2027-03-28T00:30+00:00 or 2027-03-28T02:30+01:00."),
        ("2027-10-31T01:30",
         "01:30 on 31 October 2027 comes twice in Europe/London, because the clocks go back."
         " Write 2027-10-31T01:30+01:00 or 2027-10-31T01:30+00:00."),
        ("2027-02-30T01:30", "“2027-02-30T01:30” is not in the calendar. Look at day and hour."),
        ("tomorrow", "“tomorrow” is not a time. Write it as 2015-06-25T08:00."),
    ],
)  # fmt: skip
def test_a_time_that_no_clock_shows_once(desk: DeskFolder, due: str, sentence: str) -> None:
    desk.post("bad", due, "When? #shareASM", tz="Europe/London")
    done = desk.call("plan", "sync")
    assert done.code == 1
    assert f"  error: {PLACE}/bad.md:3: {sentence}\n" in done.out
    assert_only_the_good_post_goes_out(desk, drafts=())


def test_a_text_too_long_for_one_network_is_told_of_that_one(tmp_path: Path) -> None:
    words = PRACTICE + '\n[accounts.org-bluesky]\nnetwork = "bluesky"\nhandle = "iied.org"\n'
    desk = DeskFolder(tmp_path).desk_toml(words).campaign()
    desk.post("good", TOMORROW, "Good news #shareASM", accounts="[rehearsal]")
    desk.post("bad", TOMORROW, "x" * 391 + " #shareASM")
    done = desk.call("plan", "sync")
    assert (done.code, done.out.count("error:")) == (1, 1)
    assert f"{PLACE}/bad.md:7: 401 of 300 for Bluesky. Shorten it or add `## en / bluesky`.\n" in done.out
    desk.post("bad", TOMORROW, "## en\n" + "x" * 391 + " #shareASM\n## en / bluesky\nShort #shareASM")
    assert desk.good("plan", "sync").out == "day: 0 new, 1 changed, 1 unchanged, 0 missing.\n"


def test_a_broken_file_takes_nothing_back_that_was_approved(desk: DeskFolder) -> None:
    desk.good("plan", "sync")
    desk.good("plan", "approve", "--all", "--by", "Ana")
    file = desk.plan() / "good.md"
    file.write_text(file.read_text(encoding="utf-8").replace("publish_at:", "publish_ta:"), encoding="utf-8")
    done = desk.call("plan", "sync")
    assert done.code == 1
    assert f"  error: {PLACE}/good.md:3: “publish_ta” is not known. Did you mean “publish_at”?\n" in done.out
    assert [row["state"] for row in desk.good("plan", "list", "--json").json] == ["scheduled"]


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (("plan", "sync", "dya"), "There is no campaign “dya” in scheduled_posts/. There are day."),
        (("check", "dya"), "There is no campaign “dya” in scheduled_posts/. There are day."),
        (("measure", "dya"), "The desk knows no campaign “dya”. Known are day."),
        (("collect", "dya", "--once"), "The desk knows no campaign “dya”. Known are day."),
        (("plan", "approve", "nosuch", "--by", "Ana"), "The plan has no post “nosuch”. See `shareasm plan list`."),
        (("plan", "approve", "--by", "Ana"),
         "Name the posts to approve, or say --all. See `shareasm plan approve --help`."),
        (("plan", "approve", "--all"), "Missing option '--by'. See `shareasm plan approve --help`."),
        (("plan", "cancel", "nosuch", "--by", "Ana", "--why", "no"),
         "There is no delivery “nosuch”. See `shareasm plan list`."),
        (("plan", "resume", "--by", "Ana", "--why", "on"), "There is no pause on everything. See `shareasm status`."),
        (("plan", "pause", "--network", "blusky", "--by", "Ana", "--why", "off"),
         "There is no network “blusky”. Did you mean “bluesky”?"),
        (("plan", "pause", "--account", "rehersal", "--by", "Ana", "--why", "off"),
         "There is no account “rehersal”. Did you mean “rehearsal”?"),
        (("collect", "day", "--since", "yesterday"),
         "“yesterday” is no moment. Write 2026-06-25 or 2026-06-25T14:00+02:00."),
        (("measure", "day", "mentons"), "There is no measure “mentons”. Did you mean “mentions”?"),
        (("report", "day", "--to", "out", "--format", "htm"),
         "There is no format “htm” for a report. Did you mean “html”?"),
        (("account", "test", "rehersal"), "desk.toml has no account “rehersal”. It has rehearsal."),
        (("account", "remove", "nosuch"), "desk.toml has no account “nosuch”. See `shareasm account list`."),
        (("stauts",), "There is no command “stauts”. Did you mean “status”? See `shareasm --help`."),
        (("plan", "snc"), "No such command 'snc'. Did you mean 'sync'? See `shareasm plan --help`."),
        (("status", "--jsn"), "No such option '--jsn'. See `shareasm status --help`."),
    ],
)  # fmt: skip
def test_a_word_that_means_nothing_here(desk: DeskFolder, command: tuple[str, ...], sentence: str) -> None:
    desk.good("plan", "sync")
    assert desk.call(*command).refusal == f"error: {sentence}"


def test_people_may_do_what_their_role_says(desk: DeskFolder) -> None:
    desk.desk_toml(PRACTICE + '[people]\n"ana@example.org" = "approver"\n"vic@example.org" = "viewer"\n')
    desk.good("plan", "sync")
    for person, sentence in (
        ("vic@example.org", "vic@example.org is viewer and may not approve. Ask an approver."),
        ("eve@example.org", "eve@example.org is not named under [people] in desk.toml. An admin can add them."),
    ):
        assert desk.call("plan", "approve", "--all", "--by", person).refusal == f"error: {sentence}"
    pause = desk.call("plan", "pause", "--by", "vic@example.org", "--why", "no").refusal
    assert pause == "error: vic@example.org is a viewer and may not pause. Ask an author or an approver."
    assert desk.good("plan", "approve", "--all", "--by", "ana@example.org").out == "Approved 1 post, 1 delivery.\n"


# ── The networks ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_wrong_password(tmp_path: Path, pds: Pds) -> None:
    account = pds.create_account("desk")
    desk = bluesky(tmp_path, pds.url, account.handle, "wrong")
    sentence = (
        f"org-bluesky: Bluesky does not accept the password of “{account.handle}”."
        " Put an app password into SHAREASM_ORG_BLUESKY_PASSWORD."
    )
    assert desk.call("account", "test", "org-bluesky").refusal == f"error: {sentence}"
    checked = desk.call("check")
    assert (checked.code, checked.out) == (1, f"error: {sentence}\n0 posts, 1 error, 0 warnings.\n")


def test_no_password(tmp_path: Path, pds: Pds) -> None:
    desk = bluesky(tmp_path, pds.url, "desk.test", "")
    assert desk.call("account", "test", "org-bluesky").refusal == (
        "error: org-bluesky has no password. Set SHAREASM_ORG_BLUESKY_PASSWORD in the environment or in .env beside"
        " desk.toml, or run `shareasm account add org-bluesky`."
    )


def test_a_env_file_that_others_may_read(tmp_path: Path, pds: Pds) -> None:
    desk = bluesky(tmp_path, pds.url, "desk.test", "")
    (tmp_path / ".env").write_text("SHAREASM_ORG_BLUESKY_PASSWORD=s3cret\n")
    (tmp_path / ".env").chmod(0o644)
    refusal = desk.call("account", "test", "org-bluesky").refusal
    assert refusal == (
        f"error: {tmp_path}/.env: Others on this machine can read .env. Run `chmod 600 {tmp_path}/.env`."
    )


def test_a_server_that_is_down(tmp_path: Path) -> None:
    [port] = free_ports(1)
    desk = bluesky(tmp_path, f"http://127.0.0.1:{port}", "desk.test", "secret")
    sentence = f"Bluesky's server 127.0.0.1:{port} cannot be reached (connection refused)."
    refusal = desk.call("account", "test", "org-bluesky").refusal
    assert refusal == f"error: org-bluesky: {sentence} Check its address and the network; the desk tries again."
    desk.good("plan", "sync")
    swept = desk.call("collect", "day", "--once", "--json")
    assert swept.code == 1
    [source] = swept.json["sources"]
    assert source["error"].startswith(f"bluesky: Bluesky's stream ws://127.0.0.1:{port} cannot be read")
    [state] = desk.call("status", "--json").json["sources"]
    assert state["state"] == "gap open"
    assert [gap["why"] for gap in state["gaps"]] == [source["error"]]


# ── The dashboard ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("command", ["up", "dashboard"])
def test_a_port_that_is_taken(desk: DeskFolder, command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refusal = desk.call(command, "--port", str(port)).refusal
    assert refusal == f"error: Port {port} is taken. Name another one: --port {port + 1}."


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        ("0.0.0.0", "The dashboard would be open to everybody on 0.0.0.0."  # noqa: S104
         " Set up a login under [dashboard] in desk.toml, or leave --host out."),
        ("::", "The dashboard would be open to everybody on ::."
         " Set up a login under [dashboard] in desk.toml, or leave --host out."),
        ("desk.example.org", "“desk.example.org” is no address of this machine. Write an IP address, as 127.0.0.1."),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["up", "dashboard"])
def test_a_dashboard_without_a_login_is_for_this_machine(
    desk: DeskFolder, command: str, host: str, sentence: str
) -> None:
    assert desk.call(command, "--host", host).refusal == f"error: {sentence}"


def test_a_login_that_is_not_built_opens_no_door(desk: DeskFolder) -> None:
    settings = "".join(
        f'{key} = "https://id.example.org"\n' for key in ("client_id", "server_metadata_url", "redirect_uri")
    )
    desk.desk_toml(f'{PRACTICE}[dashboard]\nlogin = "oidc"\n[dashboard.oidc]\n{settings}')
    assert desk.call("dashboard", "--host", "::").refusal == (
        "error: This version of the dashboard cannot ask for a login yet. Leave --host out."
    )


# ── Archives ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_archive_that_is_none_or_not_there(desk: DeskFolder) -> None:
    desk.good("plan", "sync")
    notes, gone = desk.folder / "notes.txt", desk.folder / "gone.jsonl"
    notes.write_text("hello\n")
    refusal = desk.call("import", str(notes)).refusal
    assert refusal.startswith(f"error: {notes}: No format that the desk reads looks like this. It reads ")
    refusal = desk.call("import", str(gone)).refusal
    assert refusal == f"error: {gone}: There is no such file. Check the name and the folder."
    assert desk.call("import", str(notes), "--format", "twarc3").refusal.startswith(
        "error: There is no format “twarc3”. Known are "
    )
    assert desk.good("measure", "day", "mentions", "--json").json["measures"]["mentions"]["value"] is None


def test_a_broken_line_of_an_archive_costs_nothing_but_itself(desk: DeskFolder) -> None:
    desk.good("plan", "sync")
    record = {"$type": "app.bsky.feed.post", "text": "Old #shareASM", "createdAt": "2025-06-15T15:06:40Z"}
    commit = {"operation": "create", "rev": "1", "collection": "app.bsky.feed.post", "rkey": "RKEY", "cid": "bafy"}
    event = {"did": "did:plc:ana", "time_us": 1750000000000000, "kind": "commit"}
    line = json.dumps({**event, "commit": {**commit, "record": record}})
    archive = desk.folder / "lines.jsonl"
    archive.write_text("\n".join([line.replace("RKEY", "one"), line[:150], line.replace("RKEY", "two")]) + "\n")
    done = desk.call("import", str(archive), "--json")
    assert done.code == 1
    told = done.json
    assert {name: told[name] for name in ("read", "new", "known", "changed", "refused")} == {
        "read": 3, "new": 2, "known": 0, "changed": 0, "refused": 1,
    }  # fmt: skip
    [problem] = told["problems"]
    assert (problem["file"], problem["line"]) == (str(archive), 2)
    assert problem["why"]
    words = desk.call("import", str(archive)).out.splitlines()
    assert words[0] == f"{archive}:2: {problem['why']}"
    assert words[1] == "jetstream: 3 read, 0 new, 2 known, 0 changed, 1 refused."


def test_a_fault_of_ours_is_a_sentence_too(desk: DeskFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyError("unheard of\nsecond line")

    monkeypatch.setattr("shareasm.cli.session.rfc3339", fail)
    monkeypatch.setattr("shareasm.cli.house.rfc3339", fail)
    assert desk.call("status").refusal == (
        "error: A fault in shareasm itself (KeyError: 'unheard of\\nsecond line'). Add --debug and send it to us."
    )
    with pytest.raises(KeyError):
        desk.call("status", "--debug")
