"""The model with the settings of its lists."""
