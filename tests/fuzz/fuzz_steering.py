"""Play random scripts of requests and commands against a database; compare after every step.

    python tests/fuzz/fuzz_steering.py SEED SCRIPTS postgresql:///scratch

The database must be at head and is emptied. A script that fails is shortened and printed. The
faults of a prototype came once in 5,000 steps: play tens of thousands after a change of the rules.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import psycopg

sys.path.insert(0, str(Path(__file__).parent.parent))

from steering import Player, Step, empty, play, random_script


def failure(connection: psycopg.Connection, script: list[Step]) -> Exception | None:
    """Play a script on an empty database; return what went wrong."""
    empty(connection)
    try:
        play(Player(connection), script)
    except (AssertionError, psycopg.Error) as error:
        return error
    return None


def shortened(connection: psycopg.Connection, script: list[Step], kind: type) -> list[Step]:
    """Leave steps out as long as the script fails in the same way."""
    place = 0
    while place < len(script):
        shorter = script[:place] + script[place + 1 :]
        if isinstance(failure(connection, shorter), kind):
            script, place = shorter, 0
        else:
            place += 1
    return script


def main(first_seed: int, scripts: int, url: str) -> int:
    steps = 0
    with psycopg.connect(url, autocommit=True) as connection:
        for seed in range(first_seed, first_seed + scripts):
            script = random_script(random.Random(seed))
            error = failure(connection, script)
            if error is not None:
                print(f"seed {seed} failed")  # noqa: T201
                for step in shortened(connection, script, type(error)):
                    print(f"  {step}")  # noqa: T201
                print(error)  # noqa: T201
                return 1
            steps += len(script)
    print(f"{scripts} scripts from seed {first_seed}, {steps} steps: no fault")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
