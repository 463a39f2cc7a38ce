"""Phases, arms, and the population that trains: from prior data to learning curves."""
