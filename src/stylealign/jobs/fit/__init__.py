"""`fit`: one's own faces, from a labelling tool to a detector, in so many minutes."""

import time

BEGAN = time.monotonic()
"""Before the job's own imports, torch among them, which take seconds of the person's minutes."""
