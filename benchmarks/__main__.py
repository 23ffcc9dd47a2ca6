"""`python -m benchmarks NAME… [--quick]`: one, several, or `all`; without a name, the list."""

from __future__ import annotations

import argparse
import inspect
import time
from importlib import import_module

NAMES = {
    "import_one": "import over one connection against pgbench replaying the same requests",
    "import_many": "import over several connections against bare INSERTs over several",
    "backfill": "backfill of 5 million requests against import of a tenth of them",
    "request_cpu": "server CPU of a request against that of a bare INSERT",
    "steering": "requests beside rules against requests without, and a block against its import",
    "several_values": "requests of three emails and three phone numbers against single ones",
    "orm": "import against a loop of ORM sessions",
    "hot_phone": "the same with 2,000 contacts on one phone number",
    "growth": "the last 100,000 of 3 million requests against the first",
    "hot_identity": "requests into an identity of 100,000 contacts against strangers",
    "merge": "1,000 identities of 1,000 contacts into one against the bare UPDATEs",
    "memory": "peak memory of 3 million requests against 100,000",
    "startup": "identity identify against a Python that does one SELECT",
    "export": "export of contacts against COPY TO STDOUT",
    "explain": "explain in a graph of a million contacts against show",
    "since": "changes of a night and --as-of in a graph of a million contacts against COPY",
    "report": "stats and report against the seconds that they may take more than a COPY",
    "dry_run": "a dry run against the import itself, and its preview against the dry run",
    "progress": "commands that report how far they are against the same without",
    "annotate": "annotate against a loop that reads and writes the CSV file",
    "http": "POST /identify against pgbench and a bare endpoint",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(f"  {name:14}{says}" for name, says in NAMES.items()),
    )
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[*NAMES, "all", []])
    parser.add_argument("--quick", action="store_true", help="small inputs: does it work at all")
    arguments = parser.parse_args()
    if not arguments.names:
        parser.print_help()
    for name in NAMES if "all" in arguments.names else arguments.names:
        start = time.monotonic()
        print(f"{name}: {NAMES[name]}", flush=True)
        run = import_module(f"benchmarks.{name}").run
        if "quick" in inspect.signature(run).parameters:
            run(quick=arguments.quick)
        else:
            run()
        print(f"({time.monotonic() - start:.0f} s)\n", flush=True)


if __name__ == "__main__":
    main()
