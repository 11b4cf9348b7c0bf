"""What every package uses: errors, files, hardware, processes, the Hub client, plots, pages."""
