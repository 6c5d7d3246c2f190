"""Servers on loopback for the tests: real ones where they can be had, strict ones of ours where not."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache"


class ServerError(Exception):
    """A server that the tests need could not be installed or started. Carries what it printed."""
