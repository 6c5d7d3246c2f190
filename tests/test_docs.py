"""The documents name what there is: every command, option, key, state and measure, and no forbidden word."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from shareasm import measure
from shareasm.cli import COMMANDS, shareasm
from shareasm.desk import DESK_TOML, ROLES
from shareasm.model import DeliveryState, MentionState, PostState

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
GLOBAL_OPTIONS = {"--desk", "--json", "--quiet", "--debug", "--version", "--help"}


def every_command() -> list[tuple[str, click.Command]]:
    found: list[tuple[str, click.Command]] = []
    context = click.Context(shareasm)
    for name in COMMANDS:
        command = shareasm.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            found += [(f"{name} {inner}", command.commands[inner]) for inner in command.commands]
        else:
            found.append((name, command))
    return found


@pytest.mark.parametrize(("name", "command"), every_command(), ids=[name for name, _ in every_command()])
def test_a_command_and_its_options_stand_in_the_manual(name: str, command: click.Command) -> None:
    rows = [line for line in (DOCS / "commands.md").read_text().splitlines() if line.startswith("|")]
    mine = [row for row in rows if re.search(rf"`{re.escape(name)}[ `\[]", row) or f"· `{name}`" in row]
    assert mine, f"docs/commands.md has no row for `{name}`"
    options = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
    missing = {option for option in options - GLOBAL_OPTIONS if not any(option in row for row in mine)}
    assert not missing


def test_every_command_of_the_manual_exists() -> None:
    text = (DOCS / "commands.md").read_text()
    named = {match.split()[0] for match in re.findall(r"^\| `([^`]+)`", text, re.MULTILINE)}
    assert named <= set(COMMANDS)


@pytest.mark.parametrize("states", [PostState, DeliveryState, MentionState], ids=lambda states: states.__name__)
def test_every_state_is_explained(states: type[PostState | DeliveryState | MentionState]) -> None:
    text = (DOCS / "states.md").read_text()
    assert [str(state) for state in states if f"`{state}`" not in text] == []


def test_every_key_of_desk_toml_is_explained() -> None:
    text = (DOCS / "desk-toml.md").read_text()
    keys = set(re.findall(r"^#? ?([a-z_]+) =", DESK_TOML, re.MULTILINE))
    assert [key for key in sorted(keys) if f"`{key}`" not in text and f"`{key} =" not in text] == []
    assert [role for role in ROLES if f'"{role}"' not in text] == []


def test_every_measure_stands_in_the_manual_in_its_own_words() -> None:
    text = " ".join((DOCS / "measures.md").read_text().split())
    for definition in measure.definitions().values():
        assert f"`{definition.name}@{definition.version}` — {definition.unit}" in text
        assert " ".join(definition.words.split()) in text


def test_the_pictures_of_the_readme_are_there() -> None:
    text = (ROOT / "README.md").read_text()
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert pictures
    assert [picture for picture in pictures if not (ROOT / picture).is_file()] == []


def test_the_links_of_the_documents_lead_somewhere() -> None:
    lost = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")]
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert lost == []


FORBIDDEN = {"tweet", "toot", "skeet", "influencer", "kpi", "segment"}
"""Words of the glossary that mean nothing else in this code. The networks' own files speak their wire's words."""


def test_nobody_uses_the_forbidden_words() -> None:
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.glob("*.md"), *(ROOT / "dashboards").rglob("*.py")]
    code = [
        file
        for file in (ROOT / "shareasm").rglob("*.py")
        if not {"networks", "archives"} & set(file.parts) and file.name != "text.py"
    ]
    hits = [
        f"{file.relative_to(ROOT)}:{number}: {word}"
        for file in [*pages, *code]
        if file.name != "glossary.md"
        for number, line in enumerate(file.read_text().splitlines(), 1)
        for word in FORBIDDEN & set(re.findall(r"[a-z]+", line.lower()))
    ]
    assert hits == []
