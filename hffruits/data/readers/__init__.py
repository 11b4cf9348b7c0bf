"""Readers of each form of data: its rows as standard rows, `image` (undecoded), `label`, `path`.

folders             class folders, nested and split in any usual way
archives            zip and tar files, unpacked safely
tables              CSV, JSONL and Parquet files; datasets of the Hub
webdataset          WebDataset shards
column_mapping      which columns hold images, labels and groups
error_translation   errors of `datasets` in one line
"""
