"""The training loop, top to bottom: one run in, one outcome out.

The batch of a step is a pure function of (seed, step), the learning rate a table over steps, dropout masks a function of
(seed, step): nothing but the tensors of a checkpoint is needed to continue exactly where a run stopped.

A :class:`Run` advances by intervals, so that several can take turns (:mod:`algoprog.training.together`); its model, optimiser
and step are a :class:`~algoprog.training.program.Program`, which the next run of the same shape takes over.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from typing import Any

import torch

from algoprog.config import InputError, RunConfig
from algoprog.data.order import make_order
from algoprog.data.store import TokenStore
from algoprog.training.budget import plan_work
from algoprog.training.checkpoint import Checkpoints
from algoprog.training.clock import Clock
from algoprog.training.engines import Engine
from algoprog.training.evaluate import Score, evaluate
from algoprog.training.guard import allowed_skips
from algoprog.training.memory import PLAIN, Memory
from algoprog.training.metrics import Drained
from algoprog.training.outcome import Outcome, build_outcome, metric_row
from algoprog.training.pace import Pace
from algoprog.training.program import LONGEST_INTERVAL_STEPS
from algoprog.training.recurrent import check_ranks, share_of_rank, state_of_all
from algoprog.training.saver import Saver
from algoprog.training.state import RunState, check_position, describe_environment, describe_position
from algoprog.training.tally import Tally
from algoprog.training.throughput import device_name, measure
from algoprog.training.warm import Programs


class Stopped(Exception):
    """The run was asked to stop and has saved what it had; it continues when started again."""


def train(
    config: RunConfig,
    store: TokenStore,
    engine: Engine,
    *,
    kernels: str = "auto",
    execution: str = "auto",
    memory: Memory = PLAIN,
    checkpoints: Checkpoints | None = None,
    checkpoint_every_s: float = 60.0,
    on_metrics: Callable[[dict[str, Any]], None] = lambda row: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Train ``config`` on ``store`` and evaluate once at the end; the options are those of :class:`Run`.

    ``kernels`` is "auto", "reference" or "fused" (:mod:`algoprog.kernels.dispatch`), ``execution`` "auto", "eager",
    "compile" or "capture" (:mod:`algoprog.training.execution`), ``memory`` what saves memory. Like the device they are no
    part of the recipe, and like the device they are recorded.

    Raises:
        InputError: the budget is below one step, the data is too small for one window, or the kernels or the execution are
            impossible here.
        Stopped: asked to stop.
    """
    run = Run(
        config,
        Programs(store, engine, kernels, execution, memory),
        checkpoints=checkpoints,
        checkpoint_every_s=checkpoint_every_s,
        on_metrics=on_metrics,
        should_stop=should_stop,
    )
    return run.complete()


class Run:
    """One run: made ready at construction, trained by :meth:`launch` and :meth:`collect` in turn, ended by :meth:`finish`."""

    def __init__(
        self,
        config: RunConfig,
        programs: Programs,
        *,
        checkpoints: Checkpoints | None = None,
        checkpoint_every_s: float = 60.0,
        on_metrics: Callable[[dict[str, Any]], None] = lambda row: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Take a program, and continue from the newest checkpoint if there is one.

        ``on_metrics`` receives a row (step, tokens, flops, loss, grad_norm, lr) per interval on rank 0. A resumed run
        reports all rows again from its first step, so that whoever listens has the whole curve even if rows were lost with
        the process. ``should_stop`` is polled about once a second, or after a step that takes longer; when it is true the
        run saves, wherever it is, and raises :class:`Stopped`.

        Raises:
            InputError: see :func:`train`.
        """
        self.config, self.programs, self.store = config, programs, programs.store
        self.checkpoints, self.saver = checkpoints, Saver(checkpoints, checkpoint_every_s)
        self.tally, self.pace = Tally(allowed_skips(config)), Pace(LONGEST_INTERVAL_STEPS)
        self.on_metrics, self.should_stop = on_metrics, should_stop
        self.clock = Clock()
        self.trouble: str | None = None
        self.train_loss: float | None = None
        self.ended_at: int | None = None
        programs.memory.check(config, programs.engine.place.world)
        self.work = plan_work(config, programs.memory.recompute == "blocks")
        self.store.require_window(config.model.context)
        check_ranks(config, programs.engine.place.world)
        self.order = make_order(
            config.data.order, len(self.store.train), config.model.context, config.batch, config.seed
        )
        self.interval = max(1, min(LONGEST_INTERVAL_STEPS, self.work.steps // 100))
        self.program = programs.take(config, self.order, self.clock)
        self.engine, self.warm = self.program.engine, self.program.runs > 0
        with self.clock.phase("build"), self.program.lane():
            self._begin()
        self.first_step, self.launched, self.launched_at = self.step.done, 0, 0.0

    def _begin(self) -> None:
        self.program.begin(self.config, self.order, self.work.steps)
        self.step = self.program.step
        restored = self.program.restore(self.checkpoints, self._check) if self.checkpoints else None
        self.rows = [dict(row) for row in restored.rows] if restored else []
        for row in self.rows if self.engine.place.rank == 0 else ():
            self.on_metrics(row)
        if restored:
            self.step.resume(restored.step, share_of_rank(restored.carried, self.engine), restored.skipped)
            self.tally.resume(restored.pending, restored.skipped, restored.last_loss)
            self.train_loss = self.rows[-1]["loss"] if self.rows else None

    def complete(self) -> Outcome:
        """Everything that is left: all intervals and the evaluation.

        Raises:
            Stopped: asked to stop.
        """
        while self.launch():
            self.collect()
        return self.finish()

    def launch(self) -> bool:
        """Start the next steps, an interval or about a second's worth; on a GPU they are only sent. False if none is left."""
        if self.trouble or self.step.done == self.work.steps:
            return False
        until_boundary = self.interval - self.step.done % self.interval
        self.launched = min(until_boundary, self.work.steps - self.step.done, self.pace.steps)
        self.launched_at = time.monotonic()
        with self.clock.phase("train"), self.program.lane():
            self.program.execute(self.launched)
        return True

    def collect(self) -> None:
        """Wait for the steps that were launched, report a full interval, and save if it is time to.

        Raises:
            Stopped: asked to stop; the state is saved.
            InputError: the state could not be saved several times in a row.
        """
        with self.clock.phase("train"), self.program.lane():
            writes = self.engine.place.rank == 0
            flags = self.should_stop(), writes and self.saver.due(), writes and self.saver.failed()
            self._settle(self.step.buffer.drain(self.launched, [*flags, time.monotonic() - self.launched_at]))

    def _settle(self, drained: Drained) -> None:
        done, steps = self.step.done, self.work.steps
        stop, save, failed, seconds = drained.sums
        self.pace.note(self.launched, seconds / self.engine.place.world)
        bad = self.tally.add(drained.rows)
        if bad is not None:
            self._diverge(done - self.launched + bad)
            return
        if done % self.interval == 0 or done == steps:
            self._report(done)
        if failed:
            self._give_up()
        if stop:
            self._stop()
        if save and done < steps:
            with self.clock.phase("write"):
                state = self._state(done)
                if self.engine.place.rank == 0:
                    self.saver.save(state)

    def _report(self, done: int) -> None:
        """The row of the steps since the last one, if any of them was good."""
        means = self.tally.take()
        if means is None:
            return
        self.train_loss = means[0]
        self.rows.append(metric_row(self.config, self.work, done, *means, self.step.factors[done - 1]))
        if self.engine.place.rank == 0:
            self.on_metrics(self.rows[-1])

    def _diverge(self, good: int) -> None:
        """The run is over: after ``good`` steps nothing changed any more. Its state is saved for whoever wants to see it."""
        self.ended_at, self.train_loss = good + 1, self.tally.last_loss
        last = "none" if self.train_loss is None else f"{self.train_loss:.6g}"
        self.trouble = f"loss or gradient not finite at step {good + 1} of {self.work.steps}; last finite loss {last}"
        if self.tally.allowed:
            self.trouble += f"; {self.tally.allowed} bad steps had been skipped before"
        with self.clock.phase("write"), contextlib.suppress(InputError):
            self._save_last(good)

    def _give_up(self) -> None:
        """Saving has failed for good on rank 0, which says why; the others just leave."""
        self.saver.check()
        raise SystemExit(2)

    def _stop(self) -> None:
        """Save and leave, the program ready for another run."""
        with self.clock.phase("write"):
            self._save_last(self.step.done)
        self.programs.give_back(self.program)
        raise Stopped(f"stopped at step {self.step.done} of {self.work.steps}")

    def _save_last(self, done: int) -> None:
        state = self._state(done)
        try:
            if self.engine.place.rank == 0:
                self.saver.save_last(state)
        finally:  # a launcher ends the others as soon as one has left
            self.engine.fence()

    def _check(self, state: RunState) -> None:
        """Data order, schedule and FLOPs must be those under which the state was reached."""
        check_position(state, self._position(state.step))

    def _position(self, step: int) -> dict[str, Any]:
        per_step = self.work.tokens_per_step, self.work.flops_per_step
        return describe_position(self.order, self.step.factors, *per_step, step)

    def _state(self, done: int) -> RunState:
        engine, model = self.engine, self.program.model
        return RunState(
            step=done,
            model=self.engine.weights(model),
            optimizer=self.engine.optimizer_state(model, self.program.optimizer),
            carried=state_of_all(self.step.carried, self.engine),
            pending=self.tally.tensor(),
            rows=self.rows,
            skipped=self.tally.skipped,
            last_loss=self.tally.last_loss,
            position=self._position(done),
            environment=describe_environment(
                engine.place.device,
                engine.place.world,
                engine.place.engine,
                torch.are_deterministic_algorithms_enabled(),
            ),
        )

    def finish(self) -> Outcome:
        """Evaluate, give the program back, and say what the run leaves.

        Raises:
            Stopped: asked to stop during the evaluation, which is polled on one rank only.
        """
        place = self.engine.place
        with self.clock.phase("evaluate"), self.program.lane():
            scores = self._evaluate()
        self.saver.wait()
        if scores and not all(math.isfinite(score.loss) for score in scores.values()):
            self.trouble, scores = "validation loss not finite", {}
        trained_s, ended_at = self.clock.seconds.get("train", 0.0), self.ended_at or self.step.done
        steps = self.step.done - self.first_step
        speed = measure(self.config, device_name(place.device), place.world, steps, trained_s)
        self.programs.give_back(self.program)
        return build_outcome(
            self.config,
            self.store,
            self.work,
            ended_at,
            self.order.epochs(ended_at),
            self.program.kernels_used(),
            scores,
            train_loss=self.train_loss,
            trouble=self.trouble,
            skipped=min(self.tally.skipped, self.tally.allowed),
            deterministic=torch.are_deterministic_algorithms_enabled(),
            seconds=self.clock.seconds,
            throughput=speed.as_json() if speed else None,
            execution={**self.program.facts(), "warm": self.warm},
            head=self.program.head_kind(self.config),
        )

    def _evaluate(self) -> dict[str, Score]:
        if self.trouble:
            return {}
        whole = self.program.whole_model(self.config)
        return evaluate(whole, self.config.model, self.store.validation, self.engine, self._look)

    def _look(self) -> None:
        """Between two batches of the evaluation. Several ranks would have to agree, and do not look."""
        if self.engine.place.world == 1 and self.should_stop():
            self._stop()
