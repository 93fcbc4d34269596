"""Where models and texts come from, and how their weights are read."""
