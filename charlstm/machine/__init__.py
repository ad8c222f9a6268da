"""The machine that torch runs on: device, precision, threads and memory."""
