"""Style arms: all that changes how a face looks and leaves its landmarks where they are. Their one table is arms.py."""
