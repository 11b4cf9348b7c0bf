"""Features of a frozen trunk, computed once and trained on in every epoch."""
