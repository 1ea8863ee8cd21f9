"""A site's own pictures, looked at: counts, sizes and ranges, a page of them, statistics that a consortium can pool."""
