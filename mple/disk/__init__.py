"""Files that must survive a crash: whole or not at all, locked by one process; what a full disk means; JSON records."""
