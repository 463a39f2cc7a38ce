"""From learning curves to tables and figures; knows numpy, not JAX."""
