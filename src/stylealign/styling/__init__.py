"""Style arms: everything that changes how a face looks and leaves its landmarks where they are, behind one interface (arm.py)."""
