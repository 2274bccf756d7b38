"""Benchmarks, each printing ratios of figures that were measured in one run."""
