"""What runs on the other machine: standard library only, sent there over the link, nothing to install."""
