"""This project against its peers, and its families beside each other: see README.md."""
