"""Benchmarks of a whole server, each figure beside the one that it is to be judged by, measured in one run.

Absolute figures say more about a machine than about the code. What counts are ratios: ingest as a share of what the
protocol's cryptography alone allows on one core (`floor`), and ingest into a grown room as a share of a new one's.

`make bench` measures all (some minutes); `make bench ARGS="--quick"` or `ARGS="--only ingest"` less, and
`ARGS=--profile` says where a web process spends its time. `bench.lab` is what a run starts and removes again.
"""
