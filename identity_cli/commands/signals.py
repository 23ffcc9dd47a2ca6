"""How a command that only reads ends when it is terminated."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

# What a shell reports for a process that SIGTERM ended.
_TERMINATED = 143


@contextmanager
def orderly_end() -> Iterator[None]:
    """End the block in order on SIGTERM, then the process quietly.

    The signal's default action would leave temporary files and the embedded server behind.
    """
    is_main = threading.current_thread() is threading.main_thread()
    was_terminated = False

    def interrupt(_number: int, _frame: object) -> NoReturn:
        nonlocal was_terminated
        was_terminated = True
        # The driver cancels its query on the server then.
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt) if is_main else None
    try:
        yield
    except KeyboardInterrupt:
        if was_terminated:
            raise SystemExit(_TERMINATED) from None
        raise
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, before)
