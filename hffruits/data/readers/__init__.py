"""One file for each form that data comes in: folders, archives, tables, WebDataset shards."""
