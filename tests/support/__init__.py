"""What tests share: quick runs, a Hub server, hostile files, hosts, drawn images."""
