"""A run's epochs for TensorBoard, written with tensorboardX. Needs no MXNet."""

import os
import time

from ..errors import DMRError

#: Tags, and the fields of the log's epoch event (:mod:`.runlog`) that they show.
TAGS = {
    "train/loss": "train_loss",
    "train/error": "train_error",
    "test/loss": "test_loss",
    "test/error": "test_error",
    "test/top5_error": "test_top5_error",
    "lr": "lr",
    "images_per_second": "images_per_second",
}


def require_tensorboard():
    """The parts of tensorboardX that are used here.

    Raises
    ------
    DMRError
        Where it is not installed.
    """
    try:
        # The layer below its SummaryWriter, whose thread would lose what it could not
        # write, and hold up the training in the end: here a full disk is an OSError.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2, summary_pb2
    except ImportError as error:
        raise DMRError(
            f"writing for TensorBoard needs tensorboardX ({error}); install it: "
            f"pip install 'tensorboardX>=2.6.2.2,<3' tensorboard"
        ) from error
    return EventsWriter, event_pb2, summary_pb2


class TensorBoard:
    """Writes event files that ``tensorboard --logdir DIRECTORY`` shows.

    Parameters
    ----------
    directory : str
    purge_step : int, optional
        For a run that is continued: TensorBoard forgets what was written before of this step
        and later ones, so that no part of a curve is drawn twice.

    Raises
    ------
    DMRError
        Where tensorboardX is not installed.
    """

    def __init__(self, directory, purge_step=None):
        EventsWriter, event_pb2, summary_pb2 = require_tensorboard()
        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        os.makedirs(directory, exist_ok=True)
        # Files are named after the second; a run that is continued at once needs another name.
        prefix, suffix = os.path.join(directory, "events"), f".{time.time_ns()}"
        self._writer = EventsWriter(prefix, suffix)
        if purge_step is not None:
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._write(purge_step, session_log=start)

    def epoch(self, values):
        """Write an epoch.

        Parameters
        ----------
        values : dict
            Fields of the log's epoch event; ``step`` is TensorBoard's step.

        Raises
        ------
        OSError
            Where it cannot be written.
        """
        curves = [
            self._summary.Value(tag=tag, simple_value=values[field]) for tag, field in TAGS.items()
        ]
        self._write(values["step"], summary=self._summary(value=curves))

    def close(self):
        self._writer.close()

    def _write(self, step, **what):
        self._writer.write_event(self._event(wall_time=time.time(), step=step, **what))
        self._writer.flush()
