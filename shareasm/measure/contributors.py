"""Contributors: how many accounts took part."""

from __future__ import annotations

from shareasm.measure.reading import Reading, measure


@measure(version=1, unit="accounts")
def contributors(reading: Reading) -> dict[str, int] | None:
    """Accounts that wrote or reposted at least one mention: those who spoke, and those who only reposted.

    They are accounts, not people: one person may have three, several may share one, and accounts are counted per
    network. Our own accounts are in the total and are named apart.
    """
    if not reading.is_known:
        return None
    return {
        "total": sum(row.authors for row in reading.reach),
        "speaking": sum(row.speaking for row in reading.reach),
        "only_reposting": sum(row.only_reposting for row in reading.reach),
        "ours": sum(row.authors for row in reading.reach if row.ours),
    }
