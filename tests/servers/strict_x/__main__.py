"""`python -m tests.servers.strict_x`: the server as a process."""

from __future__ import annotations

import argparse
import json
import signal

from tests.servers.strict_x import StrictX


def main() -> None:
    """Run the server as a process: print one line of JSON with its address and its secrets, and serve until ended."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("accounts", nargs="*", default=["desk", "other"])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--names", choices=("tweet", "post"), default="tweet")
    wish = parser.parse_args()
    with StrictX(*wish.accounts, names=wish.names, port=wish.port) as x:
        told = {"ready": True, "url": x.url, "bearer": x.bearer_token, "client_id": x.client_id}
        told |= {"secrets": {name: x.user_secrets(name) for name in x.accounts}}
        print(json.dumps(told), flush=True)  # noqa: T201 - it is how a process is asked
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
