"""The house rules that no other tool holds: the lock, what must never be committed, and tests that cannot look away."""

import ast
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.servers import ROOT

LOCKS = ("desk.txt", "dev.txt")
NOT_COMMITTED = {".git", ".venv", ".cache", "node_modules", "__pycache__", "build", "dist"}
NOT_COMMITTED |= {".pytest_cache", ".ruff_cache", ".import_linter_cache", ".hypothesis"}
# In pieces, so that this file does not hold what it forbids.
HOSTS = [("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("npmjs", "com"), ("yarnpkg", "com")]
HOSTS += [("deb.debian", "org"), ("security.debian", "org"), ("archive.ubuntu", "com")]
PLACES = ["work/", "farm/", "root/", "opt" + "/pypi", "opt" + "/wheels"]
FORBIDDEN = re.compile(
    "|".join([*(re.escape(".".join(host)) for host in HOSTS), *(rf"(?<![\w.])/{place}" for place in PLACES)])
)
WAYS_TO_LOOK_AWAY = {"skip", "skipif", "xfail", "importorskip"}


def committed_texts() -> Iterator[tuple[str, str]]:
    """Every text of the project that is neither installed nor cached nor a secret: its path and what it says."""
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in NOT_COMMITTED]
        for path in (Path(folder) / name for name in names if name != ".env"):
            content = path.read_bytes()
            if b"\0" not in content[:8192]:
                yield str(path.relative_to(ROOT)), content.decode(errors="replace")


def pins(lock: str) -> dict[str, list[str]]:
    """The versions that a lock names, by package: more than one where it depends on the Python."""
    found: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / "requirements" / lock).read_text(), re.M):
        found.setdefault(canonicalize_name(name), []).append(version)
    return found


def test_no_file_names_a_registry_or_a_path_of_a_machine() -> None:
    named = [f"{path}: {found[0]}" for path, text in committed_texts() if (found := FORBIDDEN.search(text))]
    assert named == []


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_its_hashes(lock: str) -> None:
    text = (ROOT / "requirements" / lock).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    assert lines
    assert [line for line in lines if "==" not in line or "--hash=sha256:" not in line] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_names_no_address(lock: str) -> None:
    text = (ROOT / "requirements" / lock).read_text()
    assert re.findall(r"^\s*-[-\w]*(?:index|links|host)\S*|\S*://\S*|\S* @ \S*", text, re.M) == []


def test_the_lock_agrees_with_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    asked = {"desk.txt": project["project"]["dependencies"] + groups["build"], "dev.txt": groups["dev"]}
    wrong = []
    for lock, lines in asked.items():
        locked = pins(lock)
        for wanted in (Requirement(line) for line in lines if isinstance(line, str)):
            versions = locked.get(canonicalize_name(wanted.name), [])
            if not versions or not all(wanted.specifier.contains(one) for one in versions):
                wrong.append(f"{lock}: {wanted} is locked as {versions or 'nothing'}. Run make lock.")
    assert wrong == []


def test_the_tests_run_what_people_run() -> None:
    desk, dev = map(pins, LOCKS)
    assert {name: versions for name, versions in desk.items() if dev.get(name) != versions} == {}


def test_no_test_looks_away() -> None:
    looking_away = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and node.attr in WAYS_TO_LOOK_AWAY
        and ast.unparse(node).startswith(("pytest.", "unittest.", "self."))
    ]
    assert looking_away == []
