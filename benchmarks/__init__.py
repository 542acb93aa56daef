"""Benchmarks: what aggregation costs here, in Flower and in other libraries, beside the floor.

``python -m benchmarks full`` measures everything and writes docs/performance.md; ``quick`` takes
less than a minute and only prints. All contestants of a cell get the same numbers and run in turns
in one process with pinned threads, so that what a busy machine does to one it does to all; results
are ratios of medians first, milliseconds second.
"""
