"""Dataclass fields with help texts and limits, from which command-line flags are made."""

import typing
from dataclasses import MISSING, field, fields
from typing import Any

from ..errors import DMRError

#: No sensible setting is as large; a number in a damaged file may be.
_BEYOND_USE = 1e15


def setting(text: str, source: str = "", default: Any = MISSING, **limits: Any) -> Any:
    """Declare a field that is also a flag.

    Parameters
    ----------
    text : str
        The flag's help.
    source : str
        Where its values come from, such as a section of the paper.
    default : optional
        Without it, the field is required.
    **limits
        ``above``, ``least`` and ``most`` of a number, ``choices`` of a word. ``unsaid``: the paper
        leaves the value open, so that the authors' value does not deviate from it.

    Returns
    -------
    dataclasses.Field
    """
    return field(default=default, metadata={"help": text, "source": source, **limits})


def settings_of(kind):
    """Return the fields of a dataclass that were declared with :func:`setting`."""
    return [item for item in fields(kind) if "help" in item.metadata]


def check_settings(instance):
    """Refuse values beyond the limits of their fields.

    Raises
    ------
    DMRError
    """
    for item in fields(instance):
        value = getattr(instance, item.name)
        for part in value if isinstance(value, tuple) else (value,):
            _check(item, part)


def _check(item, value):
    if value is None:
        return
    choices = item.metadata.get("choices")
    if choices and value not in choices:
        raise DMRError(f"{item.name} must be {' or '.join(map(str, choices))}, not {value}")
    if isinstance(value, (bool, str)):
        return
    above, least, most = (item.metadata.get(key) for key in ("above", "least", "most"))
    # "not above": NaN is refused too.
    if above is not None and not value > above:
        raise DMRError(f"{item.name} must be above {above}, not {value}")
    if least is not None and not value >= least:
        raise DMRError(f"{item.name} must be at least {least}, not {value}")
    if most is not None and not value <= most:
        raise DMRError(f"{item.name} must be at most {most}, not {value}")


def check_types(instance):
    """Refuse values of other types than their fields', as a file may hold.

    Raises
    ------
    TypeError
    """
    for item in fields(instance):
        value = getattr(instance, item.name)
        if not _is_of(item.type, value):
            raise TypeError(f"{item.name} cannot be a {type(value).__name__} like this")


def _is_of(kind, value):
    """Return whether a type allows a value; a whole number may stand for any other."""
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_is_of(arguments[0], part) for part in value)
    if arguments:  # Optional
        return any(_is_of(argument, value) for argument in arguments)
    if kind not in (int, float):
        return type(value) is kind
    return type(value) in (int, kind) and abs(value) < _BEYOND_USE
