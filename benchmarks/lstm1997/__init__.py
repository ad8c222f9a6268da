"""The tasks of Hochreiter & Schmidhuber 1997, as batches for the trainer, with the success criteria of the paper."""
