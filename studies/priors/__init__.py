"""What LLM priors over actions are worth: `python -m studies.priors --help`."""
