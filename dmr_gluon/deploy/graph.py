"""Edit an MXNet symbol as a graph of nodes.

MXNet cannot change a symbol, so its JSON is parsed and written again.
"""

import json
from collections import Counter

from ..runtime import mx


class Node:
    """An operator, or a variable (``op`` is then ``null``).

    Attributes
    ----------
    op, name : str
    attrs : dict of str to str
    inputs : list of (Node, int)
        The node, and the index of its output.
    """

    def __init__(self, op, name, attrs=None, inputs=()):
        self.op, self.name, self.attrs = op, name, dict(attrs or {})
        self.inputs = list(inputs)


class Graph:
    """The graph of a symbol, reachable from its outputs.

    Parameters
    ----------
    symbol : mx.sym.Symbol

    Attributes
    ----------
    outputs : list of (Node, int)
    """

    def __init__(self, symbol):
        content = json.loads(symbol.tojson())
        nodes = []
        for entry in content["nodes"]:
            inputs = [(nodes[number], output) for number, output, *_ in entry["inputs"]]
            nodes.append(Node(entry["op"], entry["name"], entry.get("attrs"), inputs))
        self.outputs = [(nodes[number], output) for number, output, *_ in content["heads"]]
        self._attrs = content["attrs"]

    def nodes(self):
        """Return all nodes in topological order."""
        found, order = set(), []
        waiting = [(node, False) for node, _ in reversed(self.outputs)]
        while waiting:
            node, inputs_done = waiting.pop()
            if inputs_done:
                order.append(node)
            elif node not in found:
                found.add(node)
                waiting.append((node, True))
                waiting += [(source, False) for source, _ in reversed(node.inputs)]
        return order

    def readers(self):
        """Count for every node how often its outputs are read, including as the graph's output."""
        inputs = [source for node in self.nodes() for source, _ in node.inputs]
        return Counter([*inputs, *(node for node, _ in self.outputs)])

    def replace(self, old, new):
        """Redirect all readers of one output, given as (node, index), to another."""
        for node in self.nodes():
            node.inputs = [new if source == old else source for source in node.inputs]
        self.outputs = [new if source == old else source for source in self.outputs]

    def symbol(self):
        """Return the graph as a symbol."""
        order = self.nodes()
        numbers = {node: number for number, node in enumerate(order)}
        entries = []
        for node in order:
            inputs = [[numbers[source], output, 0] for source, output in node.inputs]
            entry = {"op": node.op, "name": node.name, "inputs": inputs}
            if node.attrs:
                entry["attrs"] = node.attrs
            entries.append(entry)
        content = {
            "nodes": entries,
            "arg_nodes": [numbers[node] for node in order if node.op == "null"],
            "heads": [[numbers[node], output, 0] for node, output in self.outputs],
            "attrs": self._attrs,
        }
        return mx.sym.load_json(json.dumps(content))
