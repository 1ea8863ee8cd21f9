"""Files that must survive a crash: whole or not at all, locked by one process, and what a full disk means."""
