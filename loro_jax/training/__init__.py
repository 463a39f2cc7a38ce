"""Phases and arms, settings, and the population that trains: from prior data to learning curves."""
