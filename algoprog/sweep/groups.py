"""Which run a worker gets next: one of the shape that it has built, as long as there is one."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Generic, Protocol, TypeVar


class Grouped(Protocol):
    """What is queued: runs of one ``group`` share a program; ``cost`` orders them."""

    @property
    def group(self) -> str: ...
    @property
    def cost(self) -> float: ...


TaskT = TypeVar("TaskT", bound=Grouped)


class GroupedQueue(Generic[TaskT]):
    """Tasks by group. A worker stays with its group; a group is split only when a worker would otherwise be idle.

    The group with most work goes first, and within a group the longest run: the last to finish should be a short one.
    """

    def __init__(self, tasks: Sequence[TaskT]) -> None:
        self._groups: dict[str, list[TaskT]] = {}
        self._owners: dict[Hashable, str] = {}
        for task in tasks:
            self.put(task)

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    def put(self, task: TaskT) -> None:
        """Queue a task, also one that is to be tried again."""
        group = self._groups.setdefault(task.group, [])
        group.append(task)
        group.sort(key=lambda one: -one.cost)

    def take(self, worker: Hashable) -> TaskT:
        """The next task for ``worker``.

        Raises:
            IndexError: nothing is queued.
        """
        mine = self._owners.get(worker)
        if mine is None or not self._groups.get(mine):
            mine = self._choose(worker)
        self._owners[worker] = mine
        return self._groups[mine].pop(0)

    def leave(self, worker: Hashable) -> None:
        """The worker is gone, and with it what it had built."""
        self._owners.pop(worker, None)

    def _choose(self, worker: Hashable) -> str:
        left = {name: sum(task.cost for task in tasks) for name, tasks in self._groups.items() if tasks}
        if not left:
            raise IndexError("no task is queued")
        taken = {group for owner, group in self._owners.items() if owner != worker}
        free = {name: cost for name, cost in left.items() if name not in taken}
        return max(free or left, key=lambda name: left[name])
