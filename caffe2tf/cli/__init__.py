"""The command line: declarations and printing. What is done stands in the rooms that each command imports."""
