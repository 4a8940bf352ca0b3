"""When checkpoints are written, and by whom: a thread beside the training loop, at most one write at a time.

The loop pays for a copy of the state into host memory; hashing, writing and waiting for the disk happen beside it. A write that
fails is reported at once and tried again when the next one is due; after :data:`MOST_FAILURES` in a row the run stops with
one clear error, and continues from its last checkpoint when started again.
"""

from __future__ import annotations

import sys
import threading
import time

from algoprog.config import InputError
from algoprog.training.checkpoint import Checkpoints
from algoprog.training.state import RunState

EVERY_S = 60.0
MOST_FAILURES = 3
PAUSE_S = 1.0
"""Between two tries of the last save of a run that was asked to stop."""


class Saver:
    """Saves the states of one run into ``checkpoints``, one every ``every_s`` seconds; without checkpoints it does nothing."""

    def __init__(self, checkpoints: Checkpoints | None, every_s: float = EVERY_S, asynchronous: bool = True) -> None:
        self.checkpoints, self.every_s, self.asynchronous = checkpoints, every_s, asynchronous
        self._last = time.monotonic()
        self._writer: threading.Thread | None = None
        self._failures = 0
        self._problem: BaseException | None = None

    def due(self) -> bool:
        """Whether it is time to save: never while a state is still being written."""
        late = time.monotonic() - self._last >= self.every_s
        return self.checkpoints is not None and late and not self._writing()

    def failed(self) -> bool:
        """Whether saving has failed for good; :meth:`check` says how."""
        return self._problem is not None

    def check(self) -> None:
        """Let an error of the writing thread come out here, in the loop.

        Raises:
            InputError: the state could not be written several times in a row.
        """
        if isinstance(self._problem, OSError):
            raise self._explain(self._problem) from self._problem
        if self._problem is not None:
            raise self._problem

    def save(self, state: RunState) -> None:
        """Copy ``state`` and write it, beside the loop unless the saver is not asynchronous."""
        if self.checkpoints is None:
            return
        self.wait()
        self._last = time.monotonic()
        copy = state.to_host()
        if not self.asynchronous:
            self._write(copy)
            return
        self._writer = threading.Thread(target=self._write, args=(copy,), name="checkpoint writer", daemon=True)
        self._writer.start()

    def save_last(self, state: RunState) -> None:
        """Write ``state`` before returning: the process is about to end. Tried :data:`MOST_FAILURES` times.

        While another state is being written, that one is waited for and is the last: whoever stops a process does not wait
        long, and the steps between the two are repeated bit for bit. Old checkpoints stay for the next save to remove.

        Raises:
            InputError: it could not be written.
        """
        if self.checkpoints is None:
            return
        under_way = self._writing()
        self.wait()
        if under_way and self._failures == 0:
            return
        copy = state.to_host()
        for attempt in range(MOST_FAILURES):
            if attempt:
                time.sleep(PAUSE_S)
            self._write(copy, prune=False)
            if self._failures == 0:
                return
            if self.failed():
                break
        self.check()

    def wait(self) -> None:
        """Return when nothing is being written."""
        if self._writer is not None:
            self._writer.join()
            self._writer = None

    def _writing(self) -> bool:
        return self._writer is not None and self._writer.is_alive()

    def _write(self, state: RunState, prune: bool = True) -> None:
        assert self.checkpoints is not None
        try:
            self.checkpoints.save(state, prune)
        except OSError as error:
            self._failures += 1
            if self._failures >= MOST_FAILURES:
                self._problem = error
            else:
                print(f"warning: {self._explain(error)}; it will be tried again", file=sys.stderr, flush=True)
        except BaseException as error:  # whatever it is, the loop must hear of it
            self._problem = error
        else:
            self._failures = 0

    def _explain(self, error: OSError) -> InputError:
        assert self.checkpoints is not None
        last = self.checkpoints.latest_step()
        kept = "there is no earlier one" if last is None else f"the one of step {last} is kept"
        return InputError(
            f"the state of the run cannot be written ({error.strerror or error})",
            where=self.checkpoints.folder,
            remedy=f"{kept}; make room and repeat the command to continue",
        )
