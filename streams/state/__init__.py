"""What survives a crash: tables and their changelog, manifest, features, the scorer's log and state."""
