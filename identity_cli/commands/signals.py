"""How a command that only reads ends when it is told to, or when nobody reads on."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from identity_cli.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator

# What a shell reports for a process that SIGPIPE, SIGTERM ended.
_PIPE_CLOSED = 141
_TERMINATED = 143


class _Terminated(KeyboardInterrupt):
    """SIGTERM; as a KeyboardInterrupt it makes the driver cancel its query on the server."""


@contextmanager
def orderly_end() -> Iterator[None]:
    """SIGTERM and a closed pipe (`| head`) end the block in order, then the process quietly.

    The default action of both signals would leave temporary files and the embedded server behind.
    """
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _raise_terminated) if is_main else None
    try:
        yield
    except _Terminated:
        raise SystemExit(_TERMINATED) from None
    except BrokenPipeError:
        _abandon_stdout()
        raise SystemExit(_PIPE_CLOSED) from None
    except OutputError:
        _abandon_stdout()
        raise
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, before)


def _abandon_stdout() -> None:
    # What is still in the buffer would fail once more, with noise, when it is flushed at exit.
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _raise_terminated(_number: int, _frame: object) -> NoReturn:
    raise _Terminated
