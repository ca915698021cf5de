"""The rows that one stage writes and another reads, each with its keys explained."""
