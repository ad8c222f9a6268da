"""`python -m charlstm` is the same program as `charlstm`."""

from charlstm.cli import main

if __name__ == "__main__":
    main()
