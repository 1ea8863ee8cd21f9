"""The coordinator, one process: gathers the parties, makes the plan, sets up the layers, follows the run to its end."""
