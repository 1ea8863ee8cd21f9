"""A site's side of the feed: morphed samples out, scores of its test pictures back."""
