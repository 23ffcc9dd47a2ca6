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


class _Terminated(KeyboardInterrupt):
    """SIGTERM; as a KeyboardInterrupt it makes the driver cancel its query on the server."""


@contextmanager
def orderly_end() -> Iterator[None]:
    """End the block in order on SIGTERM, then the process quietly.

    The signal's default action would leave temporary files and the embedded server behind.
    """
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _raise_terminated) if is_main else None
    try:
        yield
    except _Terminated:
        raise SystemExit(_TERMINATED) from None
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, before)


def _raise_terminated(_number: int, _frame: object) -> NoReturn:
    raise _Terminated
