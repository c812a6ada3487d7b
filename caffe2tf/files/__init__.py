"""Files on disk: results that appear whole or not at all, and inputs that may be cut while they are read."""
