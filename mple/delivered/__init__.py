"""The delivered network: the whole VGG-16 in a site's hands, as files that need neither this program nor a key."""
