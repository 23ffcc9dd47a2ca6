"""The door: inputs become Parquet files of normalised requests, several inputs side by side.

Processes read one input each at a time.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import traceback
from contextlib import suppress
from dataclasses import replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from identity_cli.backfill.reading import SECONDS_BETWEEN_REPORTS, InputTask, read
from identity_cli.errors import IdentityError
from identity_cli.files import writing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from multiprocessing.process import BaseProcess
    from pathlib import Path

    from identity_cli.backfill.forgotten import ForgottenValues
    from identity_cli.backfill.objects import StoredObject
    from identity_cli.backfill.work import InputReport, WorkDirectory
    from identity_cli.importer.plan import ImportPlan
    from identity_cli.importer.stop import StopSwitch


def read_inputs(
    work: WorkDirectory,
    plan: ImportPlan,
    objects: Mapping[str, StoredObject],
    forgotten: ForgottenValues | None,
    *,
    processes: int,
    switch: StopSwitch,
    show: Callable[[int, int], None],
) -> None:
    """Read the inputs that the work directory does not have yet, in so many processes.

    `objects` are those of the inputs that are in object storage, by name. The `forgotten` values
    are left out of the requests; a row that has no others is rejected.
    `show` is called with the number of bytes and of rows read so far, those of finished inputs
    included. Raises the error of the first input that cannot be read, when all before it have been
    read; `OutputError`, and `StopRequestedError`.
    """
    reports = work.require_manifest().reports
    pool = _Pool(work, plan, objects, forgotten, show)
    try:
        pool.run([i for i, report in enumerate(reports) if report is None], processes, switch)
    finally:
        pool.end()


class _Pool:
    """The processes at work, each with the pipe to it and the index of the input that it reads."""

    def __init__(
        self,
        work: WorkDirectory,
        plan: ImportPlan,
        objects: Mapping[str, StoredObject],
        forgotten: ForgottenValues | None,
        show: Callable[[int, int], None],
    ) -> None:
        self._work = work
        self._plan = plan
        self._objects = objects
        self._forgotten = forgotten
        self._show = show
        self._children: dict[Connection, BaseProcess] = {}
        self._reading: dict[Connection, int] = {}
        self._failures: dict[int, Exception] = {}
        manifest = work.require_manifest()
        # Of each input, the bytes and the rows that were read.
        self._read = {
            index: (manifest.inputs[index]["size"] or 0, report.rows)
            for index, report in enumerate(manifest.reports)
            if report is not None
        }

    def run(self, indexes: Sequence[int], processes: int, switch: StopSwitch) -> None:
        """Read these inputs. Raises the error of the first one that fails."""
        waiting = list(reversed(indexes))
        for _ in range(min(processes, len(indexes))):
            self._start()
        while waiting or self._reading:
            switch.check()
            for pipe in self._children.keys() - self._reading.keys():
                if waiting:
                    self._begin(pipe, waiting.pop())
            for ready in wait(list(self._reading), timeout=SECONDS_BETWEEN_REPORTS):
                if isinstance(ready, Connection):
                    self._receive(ready)
            if self._failures:
                # What comes before it may fail, too: the first error is the one to report.
                first = min(self._failures)
                waiting = [index for index in waiting if index < first]
                self._end_behind(first)
            read = list(self._read.values())
            self._show(sum(offset for offset, _ in read), sum(rows for _, rows in read))
        if self._failures:
            raise self._failures[min(self._failures)]

    def end(self) -> None:
        """End the processes; what they are at is not needed."""
        for pipe in list(self._children):
            self._forget(pipe)

    def _end_behind(self, first: int) -> None:
        for pipe, index in list(self._reading.items()):
            if index > first:
                self._forget(pipe)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_read_for, args=(theirs, self._forgotten), daemon=True)
        # The parent alone decides what an interrupt does; the mask is inherited. The first process
        # starts the tracker, which would unblock it.
        resource_tracker.ensure_running()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            theirs.close()
        self._children[ours] = process

    def _begin(self, pipe: Connection, index: int) -> None:
        plan = self._plan
        self._reading[pipe] = index
        with suppress(BrokenPipeError):  # that it has ended is noticed next
            pipe.send(
                InputTask(
                    plan.paths[index],
                    self._objects.get(plan.paths[index]),
                    plan.options,
                    plan.reading_options(),
                    plan.region,
                    _unfinished(self._work.part(index)),
                    _unfinished(self._work.rejects(index)),
                )
            )

    def _receive(self, pipe: Connection) -> None:
        index = self._reading[pipe]
        try:
            kind, content = pipe.recv()
        except (EOFError, ConnectionResetError):
            self._forget(pipe)
            self._failures[index] = IdentityError(
                f"the process that reads {self._plan.paths[index]} has ended unexpectedly",
                hint="check that there is enough memory, and run the same command again",
            )
            return
        if kind == "read":
            self._read[index] = content
            return
        del self._reading[pipe]
        match kind:
            case "done":
                self._keep(index, content)
            case "failed":
                self._failures[index] = _rebuilt(*content)
            case _:
                self._failures[index] = RuntimeError(content)

    def _keep(self, index: int, report: InputReport) -> None:
        for path in (self._work.rejects(index), self._work.part(index)):
            with writing(str(path)):
                if _unfinished(path).exists():
                    os.replace(_unfinished(path), path)
                else:
                    path.unlink(missing_ok=True)
        size = self._work.require_manifest().inputs[index]["size"]
        self._read[index] = (size or 0, report.rows)
        self._work.note_report(index, report)

    def _forget(self, pipe: Connection) -> None:
        process = self._children.pop(pipe)
        self._reading.pop(pipe, None)
        pipe.close()
        process.kill()
        process.join()
        process.close()


def _unfinished(path: Path) -> Path:
    return path.with_name(f"{path.name}.tmp")


def _read_for(pipe: Connection, forgotten: ForgottenValues | None) -> None:
    """Read one input after the other in a process of its own, and report to the parent."""
    # Rows come and go without any cycles: looking for some would take a fifth of the time.
    gc.freeze()
    gc.set_threshold(100_000)
    with suppress(EOFError, BrokenPipeError):  # the parent has ended
        while True:
            task = replace(pipe.recv(), forgotten=forgotten)
            try:
                pipe.send(("done", read(task, lambda *read: pipe.send(("read", read)))))
            except IdentityError as error:
                pipe.send(("failed", (type(error), str(error), error.__dict__)))
            except BrokenPipeError:
                raise
            except Exception:  # noqa: BLE001 - the parent reports it as a defect
                pipe.send(("defect", traceback.format_exc()))


def _rebuilt(kind: type[IdentityError], message: str, state: dict[str, Any]) -> IdentityError:
    """Return an error as another process has raised it, whatever its constructor takes."""
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    error.__dict__.update(state)
    return error
