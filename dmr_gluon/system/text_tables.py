"""Texts and tables for a terminal, and tables as Markdown. Needs no MXNet."""


def text_table(header, rows, right=()):
    """Format a table with columns aligned by spaces.

    Parameters
    ----------
    header : sequence of str
    rows : sequence of sequence of str
    right : collection of int
        Indices of the columns to align at the right, such as numbers.

    Returns
    -------
    str
    """
    rows = [list(map(str, row)) for row in [header, *rows]]
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        ]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "-" * (sum(widths) + 2 * (len(widths) - 1)))
    return "\n".join(lines)


def markdown_table(header, rows, right=()):
    """Format a table as Markdown; parameters as for :func:`text_table`."""
    rule = ["---:" if i in right else "---" for i in range(len(header))]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in [header, rule, *rows])


def replace_between(text, name, new):
    """Replace the text between ``<!-- NAME -->`` and ``<!-- /NAME -->`` with ``new``.

    Raises
    ------
    ValueError
        If the marks are missing.
    """
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, _, rest = text.partition(start)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"no {start} and {end}")
    return f"{before}{start}\n{new}\n{end}{after}"


def counted(count, what):
    """Return ``1 run`` or ``2 runs``."""
    return f"{count} {what}{'' if count == 1 else 's'}"
