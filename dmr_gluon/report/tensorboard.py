"""A run's epochs for TensorBoard, written with tensorboardX. Needs no MXNet."""

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
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise DMRError(
                f"writing for TensorBoard needs tensorboardX ({error}); install it: "
                f"pip install 'tensorboardX>=2.6.2,<3' tensorboard"
            ) from error
        self._writer = SummaryWriter(
            str(directory),
            purge_step=purge_step,
            # Without a bound: a full queue would hold up the training for ever where the
            # writer's thread has died, as it does when the disk is full.
            max_queue=0,
            flush_secs=5,
            # Names have seconds otherwise, and a run continued at once would overwrite.
            filename_suffix=f".{time.time_ns()}",
        )

    def epoch(self, values):
        """Write an epoch.

        Parameters
        ----------
        values : dict
            Fields of the log's epoch event; ``step`` is TensorBoard's step.
        """
        for tag, field in TAGS.items():
            self._writer.add_scalar(tag, values[field], values["step"])

    def close(self):
        self._writer.close()
