"""User errors, each one sentence: what was found, where, and what would be right.

| exit code | meaning                                                                  |
|-----------|--------------------------------------------------------------------------|
| 0         | done                                                                     |
| 1         | a bug in charlstm (with its traceback)                                   |
| 2         | usage or settings                                                        |
| 3         | input text                                                               |
| 4         | run folder or checkpoint                                                 |
| 5         | training diverged                                                        |
| 6         | input or output failed (disk, permissions, network)                      |
| 130       | SIGINT; 143 SIGTERM; 129 SIGHUP; 138 SIGUSR1: stopped, the run saved     |
| 141       | the reader closed the pipe                                               |
"""

BROKEN_PIPE_EXIT_CODE = 141  # 128 + SIGPIPE, what a shell reports for a program that the signal ended


class CharLSTMError(Exception):
    """Base of all user errors; its text is one sentence, `exit_code` is the process's."""

    exit_code = 1


class SettingsError(CharLSTMError):
    """A setting, an override or a command-line argument is wrong."""

    exit_code = 2


class TextError(CharLSTMError):
    """A text cannot be read, decoded or encoded, or is too short."""

    exit_code = 3


class RunError(CharLSTMError):
    """A run folder or a checkpoint is missing, damaged, or does not fit."""

    exit_code = 4


class DivergedError(CharLSTMError):
    """A loss or gradient is no longer finite."""

    exit_code = 5


class InputOutputError(CharLSTMError):
    """The disk, the network or another process refused."""

    exit_code = 6


class ProcessLostError(InputOutputError):
    """Another process of the training run has ended, or cannot be reached."""


class ToldElsewhereError(CharLSTMError):
    """This process ends for a reason that another process of the training run tells the user."""

    def __init__(self, error: CharLSTMError, *, exit_code: int | None = None) -> None:
        super().__init__(str(error))
        self.exit_code = error.exit_code if exit_code is None else exit_code


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory has run out; torch has no exception of its own for the processor's."""
    if isinstance(error, ImportError | OSError):  # of a library that cannot be mapped, by the loader's sentences
        return "failed to map segment" in str(error) or "annot allocate memory" in str(error)
    says_so = isinstance(error, RuntimeError) and ("allocate" in str(error) or "out of memory" in str(error))
    return says_so or isinstance(error, MemoryError)


class DiskWarning(UserWarning):
    """A file system cannot do what protects the work on it, but the work goes on."""


class Interrupted(CharLSTMError):  # noqa: N818 - an event, not an error
    """A signal asked the program to stop; everything was saved first."""

    def __init__(self, sentence: str, *, signal_number: int) -> None:
        super().__init__(sentence)
        self.exit_code = 128 + signal_number
