"""Write what compare.py has measured as Markdown."""

import statistics

from conditions import describe
from contestants import AUTHORS, ONNXRUNTIME, OURS, PYTORCH

from dmr_gluon.system.text_tables import markdown_table
from dmr_gluon.system.timing import Speed

PARTS = ("training", "inference")


class Part:
    """The speeds of training or of inference of one network.

    Parameters
    ----------
    found : dict
        As :func:`taking_turns.take_turns` returns it.
    """

    def __init__(self, found):
        self.contestants, self.batches = found["contestants"], found["batches"]
        self._groups = [
            {
                name: Speed({int(size): [[turn] for turn in turns] for size, turns in one.items()})
                for name, one in group.items()
            }
            for group in found["groups"]
        ]

    def names(self, side=None, dtype=None, runtime=None):
        """Of those that were timed."""
        timed = {name for group in self._groups for name in group}
        wanted = {"side": side, "dtype": dtype, "runtime": runtime}
        return [
            name
            for name, one in self.contestants.items()
            if name in timed and all(value in (None, one[key]) for key, value in wanted.items())
        ]

    def rate(self, name, batch):
        """Images per second: the median over the rounds, of all groups."""
        turns = [
            turn for group in self._groups if name in group for turn in group[name].seconds[batch]
        ]
        return batch / statistics.median(turn for (turn,) in turns)

    def ratio(self, name, other, batch):
        """How many times as fast as another: round by round, the median.

        Two of different groups are never measured in the same round: then, of the medians.
        """
        common = [group for group in self._groups if name in group and other in group]
        if not common:
            return self.rate(name, batch) / self.rate(other, batch)
        return statistics.median(group[name].by(group[other])[batch] for group in common)

    def best(self, batch, side, dtype=None, runtime=None):
        """The one with the highest median; None where there is none."""
        names = self.names(side, dtype, runtime)
        return max(names, key=lambda name: self.rate(name, batch)) if names else None

    def strongest(self, mine, batch, side, dtype=None):
        """The one that ``mine`` leads least, round by round; None where there is none.

        Not the one with the highest median: those of different groups were not measured at the
        same time, and a machine's speed drifts.
        """
        names = self.names(side, dtype)
        return min(names, key=lambda name: self.ratio(mine, name, batch)) if names else None

    def headlines(self):
        """(batch, what, ours, the other, the ratio) of what is asked first."""
        for batch in self.batches:
            ours = self.best(batch, OURS, "float32")
            in_mxnet = self.best(batch, OURS, "float32", "mxnet")
            pairs = [("float32, by PyTorch's best float32", ours, PYTORCH, "float32")]
            if in_mxnet != ours:
                pairs.append(("the same, ours in MXNet", in_mxnet, PYTORCH, "float32"))
            pairs += [
                ("our fastest by PyTorch's fastest", self.best(batch, OURS), PYTORCH, None),
                ("float32, by the authors' way", in_mxnet, AUTHORS, None),
                ("float32, by ONNX Runtime", ours, ONNXRUNTIME, None),
            ]
            for what, mine, side, dtype in pairs:
                other = mine and self.strongest(mine, batch, side, dtype)
                if other:
                    yield batch, what, mine, other, self.ratio(mine, other, batch)


def parts_of(found):
    """(network, what, Part) of all that was timed."""
    for one in found["networks"]:
        for what in PARTS:
            if one.get(what, {}).get("groups"):
                yield one, what, Part(one[what])


def markdown(found):
    """Everything, as Markdown."""
    text = ["- " + line for line in describe(found["machine"])]
    text.append("- peer: " + ", ".join(f"{name} {value}" for name, value in found["peer"].items()))
    text.append(
        f"- the cores' peak: {found['peak']['multiply_adds'] / 1e9:,.0f} billion "
        f"multiply-adds a second, by {found['peak']['by']}"
    )
    text.append(
        f"- medians of {found['rounds']} rounds of {found['seconds']:g} seconds each; ratios round "
        f"by round"
    )
    sections = ["\n".join(text), _headlines(found)]
    for one, what, part in parts_of(found):
        sections.append(f"### {one['network']}, {what}\n\n{_speeds(found, one, what, part)}")
    for title, section in (
        ("Agreement", _agreement(found)),
        ("Start and memory", _start_and_memory(found)),
        ("Beginnings", _beginnings(found)),
        ("Could not be run", _failed(found)),
    ):
        if section:
            sections.append(f"### {title}\n\n{section}")
    return "\n\n".join(filter(None, sections))


def _headlines(found):
    rows = [
        (one["network"], what, batch, text, mine, other, f"{ratio:.2f}")
        for one, what, part in parts_of(found)
        for batch, text, mine, other, ratio in part.headlines()
    ]
    header = ("network", "", "batch", "ratio", "ours", "the other", "times as fast")
    return markdown_table(header, rows, (2, 6)) if rows else ""


def _speeds(found, one, what, part):
    """One row for each contestant."""
    header, right = ["contestant"], []
    for batch in part.batches:
        header += [f"images/s, batch {batch}", "ours / this", "of the peak"]
    right = range(1, len(header))
    rows = []
    for name in part.names():
        row = [name]
        for batch in part.batches:
            rate = part.rate(name, batch)
            share = rate * one["multiply_adds"][what] / found["peak"]["multiply_adds"]
            best = part.best(batch, OURS, "float32")
            ratio = "" if name == best else f"{part.ratio(best, name, batch):.2f}"
            # Only float32's peak was measured.
            float32 = part.contestants[name]["dtype"] == "float32"
            row += [f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}", ratio]
            row.append(f"{100 * share:.0f}%" if float32 else "")
        rows.append(row)
    return markdown_table(header, rows, right)


def _agreement(found):
    """The worst of each precision; all are in the JSON."""
    rows = []
    for one in found["networks"]:
        for what in PARTS:
            entries = one.get(what, {}).get("agreement", ())
            for dtype in sorted({entry["dtype"] for entry in entries}, reverse=True):
                some = [entry for entry in entries if entry["dtype"] == dtype]
                worst = max(some, key=lambda entry: entry["difference"])
                rows.append(
                    (
                        *(one["network"], what, dtype, len(some)),
                        *(f"{worst['difference']:.1e}", worst["what"], worst["who"]),
                    )
                )
    header = ("network", "", "precision", "compared", "largest difference", "of", "contestant")
    return markdown_table(header, rows, (3, 4)) if rows else ""


def _start_and_memory(found):
    rows = []
    for one in found["networks"]:
        part = one.get("training", {})
        again = part.get("second_start", {})
        for name, entry in part.get("contestants", {}).items():
            rows.append(
                (
                    one["network"],
                    part["batches"][0],
                    name,
                    f"{entry['seconds_to_first']:.1f}",
                    f"{again[name]:.1f}" if name in again else "",
                    f"{entry['peak_bytes'] / 2**20:,.0f}",
                )
            )
    header = (
        "network", "batch", "training", "seconds to the first step", "with what it cached",
        "peak memory, MiB",
    )  # fmt: skip
    return markdown_table(header, rows, (1, 3, 4, 5)) if rows else ""


def _beginnings(found):
    rows = [(name, f"{seconds:.2f}") for name, seconds in found.get("beginnings", {}).items()]
    return markdown_table(("program", "seconds"), rows, (1,)) if rows else ""


def _failed(found):
    rows = [
        (one["network"], what, name, reason.replace("|", "\\|"))
        for one in found["networks"]
        for what in PARTS
        for name, reason in one.get(what, {}).get("failed", {}).items()
    ]
    return markdown_table(("network", "", "contestant", "why"), rows) if rows else ""
