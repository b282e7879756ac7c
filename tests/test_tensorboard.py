"""Curves for TensorBoard, read back from the files; without tensorboardX most are skipped."""

import struct
import sys

import pytest

from dmr_gluon.errors import DMRError
from dmr_gluon.runs.tensorboard import TAGS, TensorBoard


def values(epoch, **changes):
    """An epoch event's fields, each with a value of its own."""
    fields = {field: float(10 * epoch + i) for i, field in enumerate(TAGS.values())}
    return {"epoch": epoch, "step": 100 * epoch, "images": 5, "seconds": {}, **fields, **changes}


def events(folder):
    """All events of a folder, in the order in which TensorBoard reads its files."""
    from tensorboardX.proto.event_pb2 import Event

    for path in sorted(folder.glob("events.*")):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])  # then its CRC, the event, its CRC
            yield Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]


def curves(folder):
    """{tag: {step: value}} as TensorBoard shows them: a session's start purges later steps."""
    shown = {}
    for event in events(folder):
        if event.HasField("session_log"):
            for curve in shown.values():
                for step in [step for step in curve if step >= event.step]:
                    del curve[step]
        for value in event.summary.value:
            curve = shown.setdefault(value.tag, {})
            assert event.step not in curve, "a step that is drawn twice"
            curve[event.step] = value.simple_value
    return shown


@pytest.fixture
def needs_tensorboardx():
    pytest.importorskip(
        "tensorboardX", reason="tensorboardX is not installed (the extra 'tensorboard')"
    )


@pytest.mark.usefixtures("needs_tensorboardx")
class TestWriting:
    def test_every_figure_of_an_epoch_is_a_curve(self, tmp_path):
        board = TensorBoard(tmp_path / "board")
        board.epoch(values(1))
        board.epoch(values(2, test_error=7.25))
        board.close()
        found = curves(tmp_path / "board")
        assert set(found) == {
            "train/loss", "train/error", "test/loss", "test/error", "test/top5_error", "lr",
            "images_per_second",
        }  # fmt: skip
        assert found["train/loss"] == {100: 10.0, 200: 20.0}
        assert found["test/error"] == {100: 13.0, 200: 7.25}
        assert found["images_per_second"] == {100: 16.0, 200: 26.0}

    def test_a_run_that_goes_on_at_once_repeats_no_step(self, tmp_path):
        board = TensorBoard(tmp_path)
        for epoch in (1, 2, 3):
            board.epoch(values(epoch))
        board.close()
        # It was continued after epoch 1.
        board = TensorBoard(tmp_path, purge_step=101)
        for epoch in (2, 3, 4):
            board.epoch(values(epoch, lr=0.5))
        board.close()
        assert curves(tmp_path)["lr"] == {100: 15.0, 200: 0.5, 300: 0.5, 400: 0.5}

    def test_what_was_written_is_there_at_once(self, tmp_path):
        """A run that is killed then has lost nothing of it."""
        board = TensorBoard(tmp_path)
        board.epoch(values(1))
        assert curves(tmp_path)["lr"] == {100: 15.0}
        board.close()

    def test_a_folder_that_cannot_be_written_is_an_oserror(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(OSError, match="file"):
            TensorBoard(tmp_path / "file" / "board")


def test_without_tensorboardx_one_line_says_how_to_get_it(tmp_path, monkeypatch):
    for name in ("tensorboardX", "tensorboardX.event_file_writer"):  # also once it is imported
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DMRError, match="pip install 'tensorboardX") as refused:
        TensorBoard(tmp_path / "board")
    assert "\n" not in str(refused.value) and not (tmp_path / "board").exists()
