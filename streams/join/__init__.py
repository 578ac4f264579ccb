"""The join of feedback to its experience: what is remembered (`state`), what is decided (`decide`), what expires (`expiry`)."""
