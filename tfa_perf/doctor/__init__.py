"""What this machine and installation can do, and what to change where they cannot."""
