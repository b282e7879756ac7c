"""Write a run's epochs for TensorBoard, with tensorboardX. Needs no MXNet."""

import os
import time

from ..errors import DMRError

#: Fields of :class:`.log.EpochRecord` by tag.
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
    """Import the parts of tensorboardX that are used here.

    Returns
    -------
    class, module, module
        EventsWriter, event_pb2, summary_pb2.

    Raises
    ------
    DMRError
        If tensorboardX is not installed.
    """
    try:
        # Not SummaryWriter: on a full disk its thread loses events, and closing it blocks.
        # This layer below raises OSError.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2, summary_pb2
    except ImportError as error:
        raise DMRError(
            f"writing for TensorBoard needs tensorboardX ({error}); install it: "
            f"pip install 'tensorboardX>=2.6.2.2,<3' tensorboard"
        ) from error
    return EventsWriter, event_pb2, summary_pb2


class TensorBoard:
    """Write event files for ``tensorboard --logdir DIRECTORY``.

    Parameters
    ----------
    directory : str
    purge_step : int, optional
        When a run is resumed: make TensorBoard discard earlier events from this step on, so that
        no part of a curve is drawn twice.

    Raises
    ------
    DMRError
        If tensorboardX is not installed.
    """

    def __init__(self, directory, purge_step=None):
        EventsWriter, event_pb2, summary_pb2 = require_tensorboard()
        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        os.makedirs(directory, exist_ok=True)
        # Names contain the time in seconds; a run that is resumed at once needs another one.
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
            Fields of the log's ``epoch`` event; ``step`` becomes TensorBoard's step.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        curves = [
            self._summary.Value(tag=tag, simple_value=values[field])
            for tag, field in TAGS.items()
            if field in values  # without test images, there are no tests
        ]
        self._write(values["step"], summary=self._summary(value=curves))

    def close(self):
        self._writer.close()

    def _write(self, step, **what):
        self._writer.write_event(self._event(wall_time=time.time(), step=step, **what))
        self._writer.flush()
