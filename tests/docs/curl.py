"""As much of curl as the documentation uses, so that its tests need no curl."""

from __future__ import annotations

import argparse
import sys
import time
import urllib.error
import urllib.request


def main() -> None:
    parser = argparse.ArgumentParser(prog="curl")
    parser.add_argument("url")
    parser.add_argument("-s", action="store_true")
    parser.add_argument("-H", dest="headers", action="append", default=[])
    parser.add_argument("-d", dest="data")
    parser.add_argument("--retry", type=int, default=0)
    parser.add_argument("--retry-connrefused", action="store_true")
    arguments = parser.parse_args()
    for attempt in range(arguments.retry + 1):
        body = arguments.data.encode() if arguments.data is not None else None
        request = urllib.request.Request(arguments.url, body)
        for header in arguments.headers:
            name, _, value = header.partition(":")
            request.add_header(name, value.strip())
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                _print(response.read())
            return
        except urllib.error.HTTPError as error:
            _print(error.read())
            return
        except urllib.error.URLError:
            if attempt == arguments.retry:
                sys.exit(7)
            time.sleep(0.2)


def _print(body: bytes) -> None:
    # The prompt begins on a new line, as a page shows it.
    sys.stdout.write(f"{body.decode()}\n")


if __name__ == "__main__":
    main()
