"""The log in a folder, in process, without a broker."""
