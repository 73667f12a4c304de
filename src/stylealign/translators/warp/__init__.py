"""`warp`: the donor's photograph, bent so that its landmarks lie on the content's. Nothing is trained."""
