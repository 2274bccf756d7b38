"""The embedded default: PostgreSQL, Valkey, web, worker and beat of one server as children of one command.

For `make run`, the demo and the tests; a deployment runs the same command lines (commands.py) in containers. Nothing
else in the project imports this package.
"""
