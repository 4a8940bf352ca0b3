"""Workers keep to the shape that they have built, and nobody is idle while there is work; rates of a sweep."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algoprog.sweep.groups import GroupedQueue
from algoprog.sweep.rate import busy_seconds, phase_seconds, runs_per_hour


@dataclass(frozen=True)
class Job:
    name: int
    group: str
    cost: float


def jobs(*costs_by_group: tuple[str, list[float]]) -> list[Job]:
    pairs = [(group, cost) for group, costs in costs_by_group for cost in costs]
    return [Job(i, group, cost) for i, (group, cost) in enumerate(pairs)]


def test_the_group_with_most_work_goes_first_and_its_longest_run_first() -> None:
    queue = GroupedQueue(jobs(("a", [1, 9]), ("b", [6, 6]), ("c", [5])))
    assert [(job.group, job.cost) for job in (queue.take("w") for _ in range(5))] == [
        ("b", 6), ("b", 6), ("a", 9), ("a", 1), ("c", 5),
    ]  # fmt: skip
    with pytest.raises(IndexError):
        queue.take("w")


def test_workers_take_different_groups_and_split_one_only_when_idle() -> None:
    queue = GroupedQueue(jobs(("a", [4, 3, 2]), ("b", [5])))
    assert queue.take("first").group == "a" and queue.take("second").group == "b"
    assert queue.take("second").group == "a"  # nothing else is left for it
    assert queue.take("first").group == "a" and len(queue) == 0


def test_a_run_that_is_tried_again_and_a_worker_that_is_gone() -> None:
    first, second = jobs(("a", [1]), ("b", [2]))
    queue = GroupedQueue([first, second])
    assert queue.take("w") == second
    queue.put(second)
    queue.leave("w")
    assert queue.take("other") == second and queue.take("other") == first and not queue


@settings(max_examples=100, deadline=None)
@given(
    work=st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0.1, 100)), max_size=30),
    turns=st.lists(st.integers(0, 3), min_size=30, max_size=30),
)
def test_every_task_is_handed_out_once_and_changes_of_shape_are_few(
    work: list[tuple[str, float]], turns: list[int]
) -> None:
    tasks = [Job(i, group, cost) for i, (group, cost) in enumerate(work)]
    queue, taken, groups = GroupedQueue(tasks), [], Counter[tuple[int, str]]()
    for turn in turns[: len(tasks)]:
        job = queue.take(turn)
        taken.append(job.name)
        groups[turn, job.group] += 1
    assert sorted(taken) == list(range(len(tasks))) and len(queue) == 0
    one = GroupedQueue(tasks)
    order = [one.take("w").group for _ in tasks]
    assert sum(a != b for a, b in zip(order, order[1:], strict=False)) == max(0, len(set(order)) - 1)


def test_runs_per_hour_counts_only_hours_with_runs_under_way() -> None:
    def attempt(start: float, end: float | None, outcome: str | None) -> dict[str, object]:
        return {"started": start, "ended": end, "outcome": outcome}

    both = [attempt(0, 1800, "done"), attempt(0, 900, "diverged"), attempt(900, 1800, "failed")]
    later = [attempt(90_000, 91_800, "done"), attempt(91_000, None, None)]
    assert runs_per_hour([*both, *later]) == pytest.approx(3)
    assert runs_per_hour([]) is None and runs_per_hour([attempt(0, 10, "failed")]) is None
    assert busy_seconds([(0, 10), (2, 3), (9, 12), (20, 21)]) == 13


def test_phases_are_added_up_over_runs() -> None:
    results = [{"seconds": {"train": 1.0, "build": 0.5}}, None, {"seconds": {"train": 2.0}}, {}]
    assert phase_seconds(results) == {"train": 3.0, "build": 0.5}
