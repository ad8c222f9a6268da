"""One download, limited in size and in time, that leaves nothing behind: it is held in memory until it is complete."""

import threading


def download(url: str, *, max_bytes: int, max_seconds: float) -> bytes:
    """The content behind a URL, or its first `max_bytes` + 1. Raises OSError if it does not come in time."""
    import http.client  # these take 50 ms, and only one corpus needs them
    import urllib.request

    received: list[bytes | Exception] = []

    def receive() -> None:
        try:
            with urllib.request.urlopen(url, timeout=max_seconds) as answer:
                received.append(answer.read(max_bytes + 1))
        except (OSError, ValueError, http.client.HTTPException) as error:
            received.append(error)

    thread = threading.Thread(target=receive, daemon=True)  # a server that sends a byte a second keeps no one waiting
    thread.start()
    thread.join(max_seconds)
    match received:
        case [bytes(content)]:
            return content
        case [Exception() as error]:
            raise OSError(type(error).__name__) from error
        case _:
            raise TimeoutError(f"not complete after {max_seconds:g} s")
