"""What a user might pick instead of a tick plant, one a module; bench_peers.py says what each has to do."""
