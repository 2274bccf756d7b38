"""What this server counts and measures, for Prometheus: docs/metrics.md lists all of it.

`instruments` has what is counted as it happens, and is imported by every layer; `folder` is where the processes of one
machine or container put their numbers together; `state` asks the database how things stand; `exposition` makes the
text of both, which `views` serves at /metrics and `listener` at a port of its own; `process` keeps the gauges of a
process.
"""
