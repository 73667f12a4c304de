"""The verb `calibrate`: boxes.py and rolls.py measure how errors grow, trust.py how sure it is; job.py picks."""
