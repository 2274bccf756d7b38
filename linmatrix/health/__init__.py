"""Whether this server works: `checks` looks, `pulse` tells that workers and beat are alive.

`linmatrix.monitoring` serves what they say at /health/live and /health/ready.
"""
