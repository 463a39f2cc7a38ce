"""How fast the suite trains on this machine: `python -m benchmarks.throughput --help`, docs/performance.md.

`command` is the parent process: it lays out rows, starts a process for each (`ours`, and the `peers`), asks
them in turn for a stretch of training, and keeps what they say. `work` counts what a gradient step needs,
`rates` measures what the machine gives, `stages` says where the time goes, `report` makes tables and figures.
"""
