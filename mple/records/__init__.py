"""What a run leaves on disk: one owner for each format, with the code that writes it and the code that reads it.

Nodes write through these modules; attacks, reports, the simulator and comparisons read through them.
"""
