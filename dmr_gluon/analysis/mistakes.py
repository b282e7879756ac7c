"""Errors by class, confusions, and the most confident mistakes of a network on a split."""

import csv
import io
import os

import numpy as np

from ..data.reader import RecordFile
from ..data.transforms import crop
from ..errors import DMRError
from ..runs.learning_curve import letters, write_picture
from ..system.files import write_result
from ..system.text_tables import counted, text_table

#: Mistakes that are shown, in rows of so many.
SHOWN, _COLUMNS = 40, 8
#: Most pixels of a shown image's height and width.
_SIDE = 96


class Predictions:
    """The predictions for a split, collected by :func:`dmr_gluon.training.evaluate.evaluate`.

    Parameters
    ----------
    prepared : RecordDataset
    split : str

    Attributes
    ----------
    labels, predicted : numpy.ndarray of int
        The true and the predicted class of each image, in the order of the records.
    confidence : numpy.ndarray of float
        The predicted class's probability.
    """

    def __init__(self, prepared, split):
        self.prepared, self.split = prepared, split
        self.names = prepared.words or prepared.classes
        self.labels = self.predicted = np.zeros(0, int)
        self.confidence = np.zeros(0)

    def add(self, labels, logits):
        """Add a batch: labels (n,) and logits (n, classes)."""
        own = logits.max(axis=1)
        share = 1 / np.exp(logits - own[:, None]).sum(axis=1)
        self.labels = np.concatenate([self.labels, labels])
        self.predicted = np.concatenate([self.predicted, logits.argmax(axis=1)])
        self.confidence = np.concatenate([self.confidence, share])

    def confusion(self):
        """Return the number of images by true (row) and predicted class (column)."""
        matrix = np.zeros((len(self.names),) * 2, int)
        np.add.at(matrix, (self.labels, self.predicted), 1)
        return matrix

    def per_class(self):
        """Return a table of the errors of each class, most errors first."""
        rows = []
        for label, row in enumerate(self.confusion()):
            wrong = int(row.sum() - row[label])
            others = np.where(np.arange(len(row)) == label, -1, row)
            worst = int(others.argmax())
            taken = f"{self.names[worst]} ({row[worst]})" if wrong else ""
            share = 100 * wrong / max(1, row.sum())
            rows.append((self.names[label], int(row.sum()), wrong, f"{share:.2f}", taken))
        rows.sort(key=lambda row: -float(row[3]))
        return text_table(
            ("class", "images", "wrong", "error %", "most often taken for"), rows, (1, 2, 3)
        )

    def most_confident_mistakes(self):
        """Return the numbers of the wrongly classified images, most confident first."""
        wrong = np.flatnonzero(self.labels != self.predicted)
        return wrong[np.argsort(-self.confidence[wrong], kind="stable")]

    def write_confusion(self, path):
        """Draw the confusion matrix into ``path``, and write its counts to a CSV file beside it.

        Returns
        -------
        list of str
            The two paths.
        """
        table = os.path.splitext(path)[0] + ".csv"
        rows = [["true \\ predicted", *self.names]]
        rows += [[name, *row] for name, row in zip(self.names, self.confusion().tolist())]
        write_picture(self._draw_confusion, path)
        _write_csv(table, rows)
        return [path, table]

    def write_mistakes(self, folder):
        """Write ``mistakes.png``, the most confident ones, and ``mistakes.csv``, all of them.

        Returns
        -------
        list of str
            The two paths.
        """
        numbers = self.most_confident_mistakes()
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as error:
            raise DMRError(f"{folder} cannot be written ({error.strerror})") from error
        paths = [os.path.join(folder, name) for name in ("mistakes.png", "mistakes.csv")]
        write_picture(lambda: self._draw_mistakes(numbers[:SHOWN]), paths[0])
        rows = [["record", "true", "predicted", "probability"]]
        for number in numbers:
            names = (self.names[self.labels[number]], self.names[self.predicted[number]])
            rows.append([number, *names, f"{self.confidence[number]:.4f}"])
        _write_csv(paths[1], rows)
        return paths

    def _draw_confusion(self):
        from matplotlib.figure import Figure

        matrix = self.confusion()
        count = len(matrix)
        shares = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
        side = max(4.5, min(14, 0.45 * count + 2))
        figure = Figure(figsize=(side + 0.8, side), dpi=110, constrained_layout=True)
        axes = figure.subplots()
        image = axes.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100)
        axes.set(xlabel="predicted", ylabel="true class")
        axes.set_title(f"{letters(self.prepared.name)}, {self.split}: percent of each class")
        if count <= 30:
            names = [letters(name)[:18] for name in self.names]
            axes.set_xticks(range(count), names, rotation=90)
            axes.set_yticks(range(count), names)
            for row, column in np.argwhere(matrix):
                colour = "white" if shares[row, column] > 0.5 else "black"
                text = {"ha": "center", "va": "center", "fontsize": 7, "color": colour}
                axes.text(column, row, matrix[row, column], **text)
        figure.colorbar(image, shrink=0.8)
        return figure

    def _draw_mistakes(self, numbers):
        from matplotlib.figure import Figure

        rows = max(1, -(-len(numbers) // _COLUMNS))
        size = (1.4 * _COLUMNS, 1.75 * rows + 0.4)
        figure = Figure(figsize=size, dpi=100, constrained_layout=True)
        count = counted(len(self.most_confident_mistakes()), "mistake")
        figure.suptitle(
            f"{letters(self.prepared.name)}, {self.split}: {count}, the most confident first"
        )
        places = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
        for axes in places:
            axes.axis("off")
        with RecordFile(self.prepared.split(self.split)) as records:
            for axes, number in zip(places, numbers.tolist()):
                (image,), _ = records.images([number])
                axes.imshow(crop(image, min(_SIDE, *image.shape[:2])), interpolation="nearest")
                true, predicted = (
                    letters(self.names[of[number]])[:16] for of in (self.labels, self.predicted)
                )
                text = f"{true}\n→ {predicted} {100 * self.confidence[number]:.0f}%"
                axes.set_title(text, fontsize=8)
        return figure


def _write_csv(path, rows):
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    write_result(path, out.getvalue().encode())
