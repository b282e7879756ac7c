"""The trained parameters of a network as views of a few long arrays (buckets).

A network has hundreds of parameters, most of them small. Updating them one by one costs more
overhead than arithmetic, and each would be a message of its own to the servers. As parts of a few
long arrays they are updated, summed and sent with one call per array. Large networks have several
arrays, so that the last layers' gradients are sent while the first layers' are still computed.
"""

import contextlib

import numpy as np

from ..runtime import mx

#: Most elements of a bucket, unless a single parameter has more: 16 MB in float32.
_MOST = 4_000_000
#: Buckets per device if several devices sum gradients. Each bucket is summed on one device, in
#: turn: with several per device, no device waits for one large sum at the end.
_FOR_EACH_DEVICE = 2
#: Parameters start at multiples of this many elements, which suits GPU kernels.
_ALIGNMENT = 64


class FlatParameters:
    """Turn a network's trained parameters and their gradients into views of long arrays.

    Parameters are read and set as before. On CPUs such a network predicts only within
    :meth:`apart`: MXNet's inference changes the memory layout of weights in place, and crashes if
    they are views. A parameter with the ``grad_req`` "null" stays as it is.

    Parameters
    ----------
    net : HybridBlock
        Initialised.
    add : bool
        Add up the gradients of several backward passes, until :meth:`forget_gradients`.
    devices : int
        Devices that sum gradients: several get more and shorter arrays.

    Raises
    ------
    ValueError
        If a parameter has a weight decay of its own.

    Attributes
    ----------
    arrays : list of Parameter
        The buckets, on the same devices.
    """

    def __init__(self, net, add=False, devices=1):
        self._parameters = trained_parameters(net)
        for parameter in self._parameters:
            if parameter.wd_mult != 1:
                raise ValueError(f"{parameter.name} has a wd_mult other than 1")
        self._places = places_of(self._parameters, devices)
        numbers = sorted({number for number, _ in self._places})
        self.arrays = [self._make(number, add) for number in numbers]

    def _make(self, number, add):
        """Create one bucket and move its parameters into it."""
        inside = [
            (parameter, start)
            for parameter, (bucket, start) in zip(self._parameters, self._places)
            if bucket == number
        ]
        last, start = inside[-1]
        size, zero = start + _size(last), mx.init.Zero()
        bucket = mx.gluon.Parameter(f"bucket{number}", shape=size, dtype=last.dtype, init=zero)
        bucket.initialize(ctx=last.list_ctx())
        bucket.lr_mult = last.lr_mult
        for parameter, start in inside:
            for i, (all_data, all_gradients) in enumerate(
                zip(bucket.list_data(), bucket.list_grad())
            ):
                data = _part(all_data, parameter, start)
                gradient = _part(all_gradients, parameter, start)
                parameter._data[i].copyto(data)
                parameter._data[i], parameter._grad[i] = data, gradient
                mx.autograd.mark_variables([data], [gradient], ["add" if add else "write"])
        return bucket

    def pieces(self, arrays):
        """Cut long arrays into the parameters' parts.

        Parameters
        ----------
        arrays : list of (NDArray, array or None)
            One per bucket.

        Returns
        -------
        dict of str to NDArray or array
            Views by the parameters' names, where there is an array.
        """
        return {
            parameter.name: _part(arrays[bucket], parameter, start)
            for parameter, (bucket, start) in zip(self._parameters, self._places)
            if arrays[bucket] is not None
        }

    def join(self, pieces):
        """Join the parameters' parts into long NumPy arrays, with zeros between them.

        Parameters
        ----------
        pieces : dict of str to array
            By the parameters' names; all or none of a bucket.

        Returns
        -------
        list of (array or None)
            One per bucket.
        """
        arrays = [None] * len(self.arrays)
        for parameter, (bucket, start) in zip(self._parameters, self._places):
            if parameter.name in pieces:
                piece = pieces[parameter.name]
                if arrays[bucket] is None:
                    arrays[bucket] = np.zeros(self.arrays[bucket].shape, piece.dtype)
                _part(arrays[bucket], parameter, start)[...] = piece
        return arrays

    def forget_gradients(self):
        """Set all gradients to 0."""
        for bucket in self.arrays:
            bucket.zero_grad()

    @contextlib.contextmanager
    def apart(self):
        """Context in which a network on CPUs has copies of its weights, for inference."""
        if self.arrays[0].list_ctx()[0].device_type == "gpu":
            yield
            return
        before = [parameter._data for parameter in self._parameters]
        for parameter in self._parameters:
            parameter._data = [array.copy() for array in parameter._data]
        try:
            yield
        finally:
            for parameter, data in zip(self._parameters, before):
                parameter._data = data


def trained_parameters(net):
    """Return the parameters with gradients: all but BN's running statistics."""
    return [p for p in net.collect_params().values() if p.grad_req != "null"]


def places_of(parameters, devices=1):
    """Assign each parameter a bucket (of one dtype and lr_mult) and its first element there.

    Parameters
    ----------
    parameters : list of Parameter
        Initialised or not.
    devices : int
        As for :class:`FlatParameters`.

    Returns
    -------
    list of (int, int)
    """
    places, count, latest, most = [], 0, {}, _MOST
    if devices > 1:
        most = min(most, sum(map(_size, parameters)) // (_FOR_EACH_DEVICE * devices))
    for parameter in parameters:
        kind = np.dtype(parameter.dtype), parameter.lr_mult
        number, end = latest.get(kind, (None, 0))
        if number is None or end + _size(parameter) > most:
            number, end, count = count, 0, count + 1
        places.append((number, end))
        end += -(-_size(parameter) // _ALIGNMENT) * _ALIGNMENT
        latest[kind] = number, end
    return places


def _size(parameter):
    return int(np.prod(parameter.shape))


def _part(array, parameter, start):
    return array[start : start + _size(parameter)].reshape(parameter.shape)
