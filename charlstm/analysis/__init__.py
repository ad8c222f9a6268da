"""Views inside a trained model: its gates over a text, the units that follow something, pages and pictures."""
