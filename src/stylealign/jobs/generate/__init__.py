"""The job `generate`: every labelled face in many styles, a data set in our own format."""
