"""Whether the suite still learns what it learned: `python -m benchmarks.regression --help`.

A small set of runs under a protocol of its own, which never follows `standard`, is trained on keys that the
reference does not use, and compared with `results/regression/reference.json` by one statistical test for the
whole table. `benchmarks.regression.faults` plants faults and says which are noticed.
"""
