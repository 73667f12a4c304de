"""The verb `evaluate`: job.py scores, arms.py finds what to score, tables.py says what was found."""
