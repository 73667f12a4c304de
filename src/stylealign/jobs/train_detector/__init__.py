"""The job `train-detector`: data sets in, a landmark detector out."""
