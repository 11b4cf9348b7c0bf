"""Shared test helpers: short runs, a Hub server, hostile files, hosts, drawn images."""
