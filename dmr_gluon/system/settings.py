"""Declare dataclass fields with help texts and limits, from which flags are generated."""

import argparse
import math
import operator
import typing
from dataclasses import MISSING, field, fields
from typing import Any

from ..errors import DMRError

#: Larger than any sensible setting. A damaged file may hold such a number.
_BEYOND_USE = 1e15
_COMPARISONS = {"above": operator.gt, "least": operator.ge, "most": operator.le}


def setting(text: str, source: str = "", default: Any = MISSING, **limits: Any) -> Any:
    """Declare a field that is also a flag.

    Parameters
    ----------
    text : str
        The flag's help.
    source : str
        Source of the values, such as a section of the paper.
    default : optional
        Without a default, the field is required.
    **limits
        ``above``, ``least`` and ``most`` limit a number, ``choices`` a word. ``unsaid``: the paper
        leaves the value open, so the authors' value is not a deviation. ``word``: allowed in place
        of a number.

    Returns
    -------
    dataclasses.Field
    """
    return field(default=default, metadata={"help": text, "source": source, **limits})


def settings_of(kind):
    """Return the fields of a dataclass that were declared with :func:`setting`."""
    return [item for item in fields(kind) if "help" in item.metadata]


def check_settings(instance):
    """Check the values of a dataclass against the limits of its fields.

    Raises
    ------
    DMRError
        If a value is out of range or not one of the choices.
    """
    for item in fields(instance):
        value = getattr(instance, item.name)
        for part in value if isinstance(value, tuple) else (value,):
            _check(item, part)


def _check(item, value):
    if value is None or value == item.metadata.get("word", ()):
        return
    if "word" in item.metadata and type(value) is not int:
        word = item.metadata["word"]
        raise DMRError(f"{item.name} must be a whole number or {word!r}, not {value!r}")
    choices = item.metadata.get("choices")
    if choices and value not in choices:
        raise DMRError(f"{item.name} must be {' or '.join(map(str, choices))}, not {value}")
    for key, holds in _COMPARISONS.items():
        # Comparisons with NaN do not hold.
        if key in item.metadata and not holds(value, item.metadata[key]):
            words = "above" if key == "above" else f"at {key}"
            raise DMRError(f"{item.name} must be {words} {item.metadata[key]}, not {value}")
    # What a run records must be readable again.
    if item.metadata.get("source") and item.type in (int, float) and value >= _BEYOND_USE:
        raise DMRError(f"{item.name} must be below {_BEYOND_USE:g}, not {value:g}")


def check_types(instance):
    """Check the types of values that were read from a file.

    Raises
    ------
    TypeError
        If a value does not have the type of its field.
    """
    for item in fields(instance):
        value = getattr(instance, item.name)
        if not _is_of(item.type, value):
            raise TypeError(f"{item.name} cannot be a {type(value).__name__} like this")


def _is_of(kind, value):
    """Return whether a value has a type. An int is accepted for a float."""
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_is_of(arguments[0], part) for part in value)
    if arguments:  # Optional
        return any(_is_of(argument, value) for argument in arguments)
    if kind not in (int, float):
        return type(value) is kind
    return type(value) in (int, kind) and abs(value) < _BEYOND_USE


def number(kind, least, most=math.inf):
    """Return an argparse type: an int or a float within limits."""

    def read(text):
        value = kind(text)
        if not least <= value <= most:  # also refuses NaN
            limit = f"at least {least}" if most == math.inf else f"from {least} to {most}"
            raise argparse.ArgumentTypeError(f"must be {limit}, not {text}")
        return value

    read.__name__ = kind.__name__
    return read
