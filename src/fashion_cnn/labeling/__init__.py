"""People decide about doubtful labels: in which order, on which page, and what came of it."""
