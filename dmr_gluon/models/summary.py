"""Show what is inside a network, with one line for equal neighbours."""

import itertools

import numpy as np

from ..runtime import mx
from .layers import BatchNorm, BatchNormRelu, GlobalAveragePool

nn = mx.gluon.nn
_PLAIN = {BatchNormRelu: "BN, ReLU", BatchNorm: "BN", GlobalAveragePool: "global average pooling"}


def summary(block):
    """Return a table of the blocks and layers inside a block, with their trained parameters.

    Parameters
    ----------
    block : HybridBlock
        Initialised or not.
    """
    rows = list(_rows(block))
    a, b, c = (max(len(row[i]) for row in rows) for i in range(3))
    return "\n".join(f"  {name:{a}}  {text:{b}}  {count:>{c}}" for name, text, count in rows)


def parameters_in(block):
    """Return the number of trained parameters as text; ``?`` before shapes are known."""
    shapes = [p.shape for p in block.collect_params().values() if p.grad_req != "null"]
    if any(shape is None or 0 in shape for shape in shapes):
        return "?"
    return f"{sum(int(np.prod(shape)) for shape in shapes):,}"


def _rows(block):
    """Return (name, text, parameters) of each group of equal children, and of what is in them."""
    children, rows = list(_named_children(block)), []
    for _, group in itertools.groupby(children, key=lambda each: _structure(each[1])):
        members = list(group)
        (first, child), (last, _) = members[0], members[-1]
        text, count, chain = _text(child), parameters_in(child), _is_chain(child)
        if len(members) > 1:
            first += (", " if len(members) == 2 else " to ") + last
            count += " each"
            text = text if chain else f"{len(members)} x {text}"
        rows.append((first, text, count))
        if not chain:
            rows += [("  " + name, *rest) for name, *rest in _rows(child)]
    return rows


def _named_children(block):
    """Yield (name, child); children of containers without a name take the container's place."""
    for key, child in block._children.items():
        if child.prefix == block.prefix and child._children:
            yield from _named_children(child)
        else:
            own = child.name[len(block.prefix) :] if child.name.startswith(block.prefix) else ""
            yield own or key, child


def _structure(block):
    """Return what two blocks have in common that differ in names and values only."""
    return _text(block), tuple(_structure(child) for child in block._children.values())


def _is_chain(block):
    return not any(child._children for child in block._children.values())


def _text(block):
    """Describe a layer, a chain of layers or, by its class, any other block."""
    if block._children and _is_chain(block):
        return ", ".join(map(_text, block._children.values()))
    if isinstance(block, nn.Conv2D):
        (kernel, _), (stride, _) = block._kwargs["kernel"], block._kwargs["stride"]
        groups, by = block._kwargs["num_group"], f"/{stride}" if stride > 1 else ""
        inside = f" in {groups} groups" if groups > 1 else ""
        return f"conv {kernel}x{kernel}{by} {block._in_channels}->{block._channels}{inside}"
    if isinstance(block, nn.Dense):
        return f"FC {block.weight.shape[1] or '?'}->{block._units}"
    if type(block) in _PLAIN:
        return _PLAIN[type(block)]
    last = "; one output" if getattr(block, "last", False) else ""
    mapping = getattr(block, "mapping", "mean")
    own = "" if mapping == "mean" else f"; {mapping} mapping"
    return type(block).__name__ + own + last
