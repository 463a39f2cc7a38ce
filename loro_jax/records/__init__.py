"""What a run leaves behind: its files, its identity, and how both are read back. Knows no JAX."""
