"""The program, as `charlstm` and as `python -m charlstm`."""

import os
import signal


def main() -> None:
    """Run the command line; from its first moment SIGINT ends the process at once and without a traceback.

    Nothing needs to be cleaned up: files are written atomically. A signal that the parent process set to be
    ignored (as `nohup` does) stays ignored.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda _number, _frame: os._exit(128 + signal.SIGINT))
    from charlstm.cli import main as run

    run()


if __name__ == "__main__":
    main()
