"""The job `train-translator`: a data set in, a translator and its judge's verdict out."""
