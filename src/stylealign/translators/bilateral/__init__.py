"""`bilateral`: the face's own photograph in other light and colours (after Gharbi et al., SIGGRAPH 2017)."""
