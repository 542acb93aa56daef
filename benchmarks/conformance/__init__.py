"""Conformance: every rule and mixing beside the same one of other libraries, on the same inputs.

``python -m benchmarks conformance`` writes docs/conformance.md. All libraries get float64 updates
and no more; whoever deviates is compared with a variant that deviates in a named way, so that the
page says why only where this has been tried.
"""
