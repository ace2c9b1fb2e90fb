"""Tables and counts in plain text: for logs, error messages and `print(report)`."""

from collections.abc import Sequence


def plain_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table: title, heads, a rule, rows; columns of numbers to the right."""
    right = [is_numeric([row[index] for row in rows]) for index in range(len(columns))]
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]

    def join(cells: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if numeric else cell.ljust(width)
            for cell, width, numeric in zip(cells, widths, right, strict=True)
        )
        return "  ".join(padded).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return [title, join(columns), rule, *(join(row) for row in rows)]


def is_numeric(cells: Sequence[str]) -> bool:
    """Return whether a column holds numbers, percentages and gaps alone."""
    stripped = [cell.strip().rstrip("%").replace(",", "") for cell in cells]
    filled = [cell for cell in stripped if cell not in ("", "-")]
    try:
        return [float(cell) for cell in filled] != []
    except ValueError:
        return False


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, in the plural where it needs one."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
