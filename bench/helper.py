"""A process beside ours that runs functions by name: the fake participants, or code inside of a server's Django.

The participants must not share an interpreter with anything that is measured, and Django's settings are per process.
A request is a line of JSON on standard input, its answer one on standard output. The process ends with its input, so
it never outlives us, however we end.
"""

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from linmatrix.stack.errors import StackError
from linmatrix.stack.server import PROJECT

END_SECONDS = 10.0


class Helper:
    """One such process. With `django`, Django is set up as `environment` says before anything else is imported."""

    def __init__(self, *, environment: Mapping[str, str], log: Path, django: bool = False) -> None:
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as errors:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "bench.helper", *(["--django"] if django else [])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=dict(environment),
                cwd=PROJECT,
                start_new_session=True,  # Ctrl-C is for us
            )

    def call(self, function: str, **arguments: Any) -> Any:
        """Run `module:function` there. What goes in and what comes out is JSON. Raises StackError."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        request = {"function": function, "arguments": arguments}
        try:
            self._child.stdin.write(json.dumps(request).encode() + b"\n")
            self._child.stdin.flush()
            line = self._child.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            raise StackError(f"{function} ended its process:\n{self._log.read_text(errors='replace')[-2000:]}")
        answer = json.loads(line)
        if "error" in answer:
            raise StackError(f"{function} failed:\n{answer['error']}")
        return answer["result"]

    def close(self) -> None:
        """End it."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        try:
            self._child.stdin.close()
            self._child.wait(timeout=END_SECONDS)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._child.kill()
            self._child.wait()
        self._child.stdout.close()


def main() -> None:
    """Answer requests until standard input ends."""
    if "--django" in sys.argv:
        import_module("django").setup()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever else is printed goes to the log
    for line in sys.stdin:
        request = json.loads(line)
        module, _, function = request["function"].partition(":")
        try:
            answer = {"result": getattr(import_module(module), function)(**request["arguments"])}
        except Exception:  # noqa: BLE001  it is the caller's to know
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
