"""`fit`: one's own faces, from a labelling tool to a detector, in so many minutes."""
