"""What has to happen, as pure functions: everything they may look at comes in as a value, the time included."""
