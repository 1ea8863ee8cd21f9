"""A site's morph keys in a run: set-up, layer upload, rotation and revocation."""
