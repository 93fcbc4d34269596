"""What a run found: in words, in figures, on a page."""

import os

# A notebook names a backend of its own to what it starts; here it may not be installed.
os.environ["MPLBACKEND"] = "agg"
