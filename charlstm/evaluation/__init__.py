"""How well a model predicts a text: tallies that are added up and divided once."""
