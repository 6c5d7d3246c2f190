"""Beside: a program that ends with the process that started it, however that one ended.

`python -m shareasm.cli.beside MODULE …` runs a module as `python -m` does, and listens to its standard input: the
starter holds the other end of that pipe, and the system closes it even after a kill -9. No dashboard is left behind.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

GRACE_SECONDS = 5.0


def run(words: list[str]) -> None:
    """Run the module of the first word with the others as its arguments."""
    threading.Thread(target=_end_with_starter, daemon=True).start()
    sys.argv = words
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)


def _end_with_starter() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    run(sys.argv[1:])
