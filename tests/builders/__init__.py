"""What tests build: faces, data sets, tiny jobs, networks that need no training. Holds no test."""
