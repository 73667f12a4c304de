"""The job `pseudo-label`: faces labelled by an ensemble of detectors, with a trust from how far they agree."""
