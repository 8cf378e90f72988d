"""A recipe and data in; a trained network out."""
