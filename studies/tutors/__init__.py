"""The study of LLM tutors: `python -m studies.tutors --help`."""
