"""A site's side of the delivery: fetch the trained trunk, make the whole network of it, check it, keep it."""
