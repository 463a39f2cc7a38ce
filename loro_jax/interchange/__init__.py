"""Datasets from and to other formats."""
