"""From what the user named to checked, labelled, split images, and their transforms."""
