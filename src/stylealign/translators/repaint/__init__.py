"""`repaint`: the donor's photograph bent onto the content's landmarks, and painted anew where it cannot be trusted."""
