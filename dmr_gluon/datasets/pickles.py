"""Reading pickles of plain data: nothing that they ask for is run, and nothing is unbounded."""

import io
import pickle
from typing import Any, ClassVar, Dict

import numpy as np

from ..errors import DMRError
from .archives import ANOTHER

#: Steps of reading a pickle. CIFAR-100's largest takes under 1,000,000.
_MOST_STEPS = 2_000_000
#: Bytes of a number or a text that ends with its line, as protocol 0 has them.
_LONGEST_LINE = 4096
#: What CIFAR's pickles, and today's Python's of the same, are made of. Others take memory for
#: what is not there (BYTEARRAY8), or hash or change what they are given (sets, BUILD of all).
_OPCODES = """
    MARK STOP PROTO FRAME NONE NEWTRUE NEWFALSE
    INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT
    STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8
    UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8
    TUPLE EMPTY_TUPLE TUPLE1 TUPLE2 TUPLE3 LIST EMPTY_LIST APPEND APPENDS
    DICT EMPTY_DICT SETITEM SETITEMS PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET
    GLOBAL STACK_GLOBAL REDUCE BUILD PERSID BINPERSID
"""


class _Array:
    """Stands for a NumPy array in a pickle, and does nothing but keep what it is given."""

    def __init__(self, *_):
        self.shape = self.dtype = self.data = None

    def __setstate__(self, state):
        _, self.shape, self.dtype, self.fortran, self.data = state


class _Dtype:
    """Stands for a NumPy dtype in a pickle."""

    def __init__(self, name=None, *_):
        self.name = name

    def __setstate__(self, state):
        pass


class _Steps(io.BytesIO):
    """A pickle's bytes, read in a bounded number of steps."""

    def __init__(self, content):
        super().__init__(content)
        self.left = _MOST_STEPS

    def read(self, size=-1):
        self.left -= 1
        if self.left < 0:
            raise pickle.UnpicklingError("it has too many parts")
        return super().read(size)

    def readline(self):
        line = super().readline(_LONGEST_LINE)
        if len(line) == _LONGEST_LINE:  # a number so long would take hours
            raise pickle.UnpicklingError("it has too long a line")
        return line


class _DataUnpickler(pickle._Unpickler):
    """Reads dictionaries, lists, numbers, bytes and arrays. Nothing else is looked up or called.

    The one in plain Python: the other takes memory for positions that a pickle names.
    """

    dispatch: ClassVar[Dict[int, Any]] = {
        code: pickle._Unpickler.dispatch[code]
        for code in (getattr(pickle, name)[0] for name in _OPCODES.split())
    }

    def __init__(self, content, **options):
        super().__init__(_Steps(content), **options)
        self._text = len(content)

    def _latin1(self, text, encoding="latin1"):
        """How Python 3 writes bytes in a pickle for Python 2."""
        if not isinstance(text, str) or encoding != "latin1":
            raise pickle.UnpicklingError("it has text in an unknown encoding")
        self._text -= len(text)
        if self._text < 0:
            raise pickle.UnpicklingError("it repeats its text")
        return text.encode("latin1")

    def load_frame(self):  # a hint only; what is in a frame would not be counted
        self.read(8)

    dispatch[pickle.FRAME[0]] = load_frame

    def load_build(self):
        if not isinstance(self.stack[-2], (_Array, _Dtype)):
            raise pickle.UnpicklingError("it changes what is no array")
        super().load_build()

    dispatch[pickle.BUILD[0]] = load_build

    def load_setitem(self):
        self._check_keys(self.stack[-2:-1])
        super().load_setitem()

    dispatch[pickle.SETITEM[0]] = load_setitem

    def load_setitems(self):
        self._check_keys(self.stack[::2])
        super().load_setitems()

    dispatch[pickle.SETITEMS[0]] = load_setitems

    def load_dict(self):
        self._check_keys(self.stack[::2])
        super().load_dict()

    dispatch[pickle.DICT[0]] = load_dict

    @staticmethod
    def _check_keys(keys):
        # The hash of a tuple in a tuple in ... would overflow the stack.
        if not all(isinstance(key, (bytes, str, int)) for key in keys):
            raise pickle.UnpicklingError("it has a key that is no text")

    def find_class(self, module, name):
        if (module, name) == ("_codecs", "encode"):
            return self._latin1
        if module in ("numpy.core.multiarray", "numpy._core.multiarray", "numpy"):
            stand_in = {"_reconstruct": _Array, "ndarray": _Array, "dtype": _Dtype}.get(name)
            if stand_in:
                return stand_in
        raise pickle.UnpicklingError(f"it wants to use {f'{module}.{name}'[:80]!r}")

    def persistent_load(self, _):
        raise pickle.UnpicklingError("it refers to something outside")


def unpickle(content, name):
    """A pickle of plain data, without running anything that it asks for.

    Parameters
    ----------
    content : bytes
    name : str
        For refusals.

    Returns
    -------
    object
        Text of Python 2 as bytes; arrays of uint8 as NumPy arrays in dictionaries.

    Raises
    ------
    DMRError
        For a pickle that is damaged or wants anything but plain data.
    """
    try:
        loaded = _DataUnpickler(content, encoding="bytes").load()
    except Exception as error:  # whatever damaged bytes make of the unpickler
        reason = "it has a part that none has" if isinstance(error, KeyError) else str(error)[:200]
        raise DMRError(f"{name} is not a pickle of plain data: {reason}; {ANOTHER}") from None
    if isinstance(loaded, dict):
        return {key: _to_numpy(value, name) for key, value in loaded.items()}
    return loaded


def _to_numpy(value, name):
    if not isinstance(value, _Array):
        return value
    shape, dtype = value.shape, getattr(value.dtype, "name", None)
    plain = (
        isinstance(shape, tuple)
        and len(shape) <= 4
        and all(isinstance(size, int) and 0 <= size < 1 << 40 for size in shape)
        and dtype in (b"u1", "u1")
        and isinstance(value.data, bytes)
        and not value.fortran
    )
    if not plain or np.prod(shape, dtype=object) != len(value.data):
        raise DMRError(f"{name} has an array that is not of bytes; {ANOTHER}")
    return np.frombuffer(value.data, np.uint8).reshape(shape)
