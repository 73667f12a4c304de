"""`suggest`: which faces are worth labelling next."""
