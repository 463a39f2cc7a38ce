"""A whole run: prepared, trained, kept, resumed, written."""
