"""`python -m linmatrix.stack COMMAND`: what the Makefile calls."""

import argparse
import sys

from linmatrix.stack.errors import StackError


def main() -> int:
    """Run the command; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m linmatrix.stack", description="The embedded linmatrix stack.")
    choices = parser.add_subparsers(dest="command", required=True)
    choices.add_parser("run", help="one server in the foreground")
    choices.add_parser("demo", help="servers that talk to each other")
    choices.add_parser("test", help="pytest with services of its own; arguments go to pytest", add_help=False)
    choices.add_parser("bench", help="the benchmarks with services of their own", add_help=False)
    choices.add_parser("manage", help="manage.py against the server that `run` runs", add_help=False)
    chosen, rest = parser.parse_known_args()
    if rest and chosen.command in ("run", "demo"):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        return _dispatch(chosen.command, rest)
    except StackError as error:
        print(error, file=sys.stderr)
        return 1


def _dispatch(command: str, rest: list[str]) -> int:
    # Imported where they are used: none needs what the others need.
    if command == "run":
        from linmatrix.stack import run

        return run.main()
    if command == "demo":
        from linmatrix.stack import demo

        return demo.main()
    if command == "test":
        from linmatrix.stack import test

        return test.main(rest)
    if command == "manage":
        from linmatrix.stack import manage

        return manage.main(rest)
    from linmatrix.stack.scratch import run_with_services

    return run_with_services([sys.executable, "-m", "bench", *rest], name="bench", durable=True)


if __name__ == "__main__":
    sys.exit(main())
