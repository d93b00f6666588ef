"""TensorBoard's event files, written at once: tensorboardX's queue waits forever when its thread meets a full disk."""

import pathlib
import time
from collections.abc import Mapping


class EventFile:
    """A new event file in `folder`.

    Raises:
      ImportError: tensorboardX is not installed.
      OSError: the folder or the file cannot be written.
    """

    def __init__(self, folder: pathlib.Path):
        from tensorboardX import event_file_writer  # here, because it is an optional dependency

        folder.mkdir(exist_ok=True)
        self._writer = event_file_writer.EventsWriter(str(folder / "events"))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes a scalar for each value.

        Raises:
          OSError: the file cannot be written.
        """
        from tensorboardX.proto import event_pb2, summary_pb2

        scalars = [summary_pb2.Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._writer.write_event(
            event_pb2.Event(wall_time=time.time(), step=step, summary=summary_pb2.Summary(value=scalars))
        )
        self._writer.flush()
