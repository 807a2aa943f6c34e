"""How the commands speak: results to stdout, all else to stderr."""

import sys


def fail(message: str, status: int = 1) -> int:
    """Says what went wrong; returns the exit status."""
    print(f"duotrack: error: {message}", file=sys.stderr)
    return status


def as_json(facts: object) -> str:
    """Facts for programs."""
    import json

    return json.dumps(facts, indent=2)


def as_lines(facts: dict[str, object], indent: str = "") -> str:
    """Nested facts as indented lines."""
    lines = []
    for key, value in facts.items():
        label = indent + key.replace("_", " ")
        if isinstance(value, dict):
            lines += [label, as_lines(value, indent + "  ")]
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
            lines.append(f"{label}: {shown}")
    return "\n".join(lines)
