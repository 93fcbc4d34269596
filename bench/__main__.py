"""`python -m bench`: bench/scorers.py, by its own name, so that the processes it starts find their functions there."""

from bench.scorers import main

main()
