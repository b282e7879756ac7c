"""HTML for the report: escaping, tables, and what may follow a name. Needs no MXNet.

Names and messages come from logs and folders, which anybody may have written: everything that is
shown passes through :func:`text`.
"""

import html
import json

from ...runs.training_run import one_line

#: Characters of a name or message that are shown; a log may hold megabytes in one line.
MOST = 200
#: What makes a row stand back.
MUTED = ' class="muted"'


def plain(value, most=MOST):
    """A value as text of at most so many characters, each of which can be seen."""
    return one_line(str(value), most, "…")


def text(value, most=MOST):
    """The same, for HTML, also within an attribute's quotes."""
    return html.escape(plain(value, most), quote=True)


def name(value):
    """A name within other text, which keeps its order where the name is written right to left.

    A long one is rather broken after an underscore.
    """
    return f"<bdi>{text(value).replace('_', '_<wbr>')}</bdi>"


def data(value):
    """JSON that can stand in a script element."""
    found = json.dumps(value, separators=(",", ":"), allow_nan=False)  # pure ASCII
    for sign in "<>&":
        found = found.replace(sign, f"\\u{ord(sign):04x}")
    return found


def bullets(items, most=20):
    """A list, of which the rest is only counted where it is long; each item is escaped here."""
    items = list(items)
    shown = [f"<li>{text(item, 400)}</li>" for item in items[:most]]
    if len(items) > most:
        shown.append(f'<li class="muted">and {len(items) - most} more</li>')
    return f"<ul>{''.join(shown)}</ul>"


class Cell:
    """One field of a table.

    Parameters
    ----------
    content : str
        HTML.
    value : float, optional
        By which a column of numbers is sorted; None stands at the end.
    """

    def __init__(self, content, value=None):
        self.content, self.value = content, value


def number(value, form="{:.2f}"):
    """A cell with a number, or with a dash for None."""
    return Cell('<span class="muted">–</span>' if value is None else signed(form, value), value)


def signed(form, value):
    """Formatted, with the minus sign that is as wide as the plus sign."""
    return form.format(value).replace("-", "−")


def table(key, columns, rows, caption, muted=()):
    """A table that can be sorted, in a box that scrolls sideways by itself.

    Parameters
    ----------
    key : str
        Its id, of letters, digits and hyphens.
    columns : sequence of (str, str)
        Heading, and ``number`` or ``text``.
    rows : sequence of sequence
        Of HTML or :class:`Cell`. The first one of a row heads it.
    caption : str
    muted : collection of int
        Rows that stand back.

    Returns
    -------
    str
    """
    head = "".join(
        f'<th scope="col" data-kind="{kind}" aria-sort="none">'
        # Enabled by the script: without it nothing would sort.
        f'<button type="button" id="{key}-{i}" disabled>{text(title)}</button></th>'
        for i, (title, kind) in enumerate(columns)
    )
    body = []
    for i, row in enumerate(rows):
        cells = []
        for (_, kind), cell in zip(columns, row):
            cell = cell if isinstance(cell, Cell) else Cell(cell)
            tag = "td" if cells else 'th scope="row"'
            kind = ' class="number"' if kind == "number" else ""
            value = "" if cell.value is None else f' data-value="{cell.value:.10g}"'
            cells.append(f"<{tag}{kind}{value}>{cell.content}</{tag[:2]}>")
        body.append(f"<tr{MUTED if i in muted else ''}>{''.join(cells)}</tr>")
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{text(caption)}" '
        f'id="scroll-{key}"><table class="sortable" id="{key}">'
        f"<caption><span>{text(caption)}</span></caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )
