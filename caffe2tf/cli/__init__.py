"""The command line: one file for each command, declarations and printing. What is done stands in the rooms that each imports.

A file here with a line `PLACE = N` is a command: its name is the file's, its function is `command`, and N its place in the
order of use. main.py finds it.
"""
