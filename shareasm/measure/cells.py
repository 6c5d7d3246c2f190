"""Cells: what a table hides before it leaves the house, so that nobody is found in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

SMALL = "<5"
HIDDEN = "hidden"
LEAST = 5

Cell = int | None | str


def hide_small(cells: Mapping[str, int | None]) -> dict[str, Cell]:
    """Return a row of counts of accounts as it may leave the house, beside its printed total. Pure.

    A count of 1 to 4 becomes "<5"; where the total would still betray the only such cell, a second one is hidden.
    """
    hidden = hide_small_table([list(cells.values())])
    return dict(zip(cells, hidden[0], strict=True))


def hide_small_table(rows: Sequence[Sequence[int | None]]) -> list[list[Cell]]:
    """Return a table of counts of accounts as it may leave the house, beside the totals of its rows and columns. Pure.

    In a table of several rows no row and no column keeps exactly one hidden cell, because its total would betray it.
    """
    table: list[list[Cell]] = [[_hidden(cell) for cell in row] for row in rows]
    while any([_hide_second(table, rows, line) for line in _lines(rows)]):
        pass
    return table


def _hidden(cell: int | None) -> Cell:
    return SMALL if cell is not None and 0 < cell < LEAST else cell


def _lines(rows: Sequence[Sequence[int | None]]) -> Iterable[list[tuple[int, int]]]:
    """Return the places of every row, and of every column of more than one cell."""
    wide = len(rows[0]) if rows else 0
    across = [[(r, c) for c in range(wide)] for r in range(len(rows))]
    down = [[(r, c) for r in range(len(rows))] for c in range(wide)] if len(rows) > 1 else []
    return [*across, *down]


def _hide_second(
    table: list[list[Cell]], rows: Sequence[Sequence[int | None]], line: Sequence[tuple[int, int]]
) -> bool:
    """Hide the smallest open cell of a line in which one alone is hidden. Return True when that was needed."""
    if sum(isinstance(table[r][c], str) for r, c in line) != 1:
        return False
    open_cells = [(not rows[r][c], rows[r][c] or 0, r, c) for r, c in line if not isinstance(table[r][c], str)]
    known = [cell for cell in open_cells if rows[cell[2]][cell[3]] is not None]
    if not known:
        return False
    _, _, r, c = min(known)
    table[r][c] = HIDDEN
    return True
