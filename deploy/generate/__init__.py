"""Makes the files of deploy/ that follow from others: `python -m deploy.generate`."""
