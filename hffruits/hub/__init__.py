"""Models, data sets and Spaces pushed to the Hub, and what is left out of them."""
