"""What comes from the sites: whom to ask for which samples, what they sent, and the file that keeps it."""
