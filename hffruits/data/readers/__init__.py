"""Readers of each form of data: its rows as standard rows, `image` (undecoded), `label`, `path`.

folders             class folders, nested and split in any usual way
archives            zip and tar files, unpacked safely
tables              CSV, JSONL and Parquet files; saved datasets; datasets of the Hub
webdataset          WebDataset shards
column_mapping      which columns hold images, labels and groups
own_splits          splits that rows name themselves, in a column or in the folders of their paths
image_cells         what a cell says of an image: a path as people write it, bytes, base64
error_translation   errors of `datasets` in one line
"""
