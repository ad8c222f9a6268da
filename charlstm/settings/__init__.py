"""The settings of a run: their schema, their reader and their reference page."""
