"""The `hffruits` command: a subcommand for each thing the package does."""
