"""One module per environment: `python -m benchmarks.<name>`."""
