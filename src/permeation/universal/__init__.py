"""What the models of one shape have in common: their weights' subspaces, null models, and what these do."""
