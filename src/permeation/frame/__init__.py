"""How a stage runs: its inputs and outputs, its settings, its errors. Never what it finds."""
