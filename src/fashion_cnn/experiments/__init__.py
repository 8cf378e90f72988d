"""What trains many networks: seeds, searches, audits of the labels."""
