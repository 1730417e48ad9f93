"""Ask the public lists of known weaknesses about every pinned dependency, or say that they are out of reach.

    python -m scripts.audit [FILE]          FILE: requirements with versions, by default constraints.txt

The exit code is 1 if a weakness is known, 0 if none is or nothing could be asked.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

SECONDS = 300
"""The longest that the lists may take to answer."""

SKIPPED = "audit: skipped, the lists of known weaknesses"


def main(arguments: list[str]) -> int:
    """Run pip-audit, print what it finds, and return the exit code."""
    file = Path(arguments[0]) if arguments else ROOT / "constraints.txt"
    options = ("--disable-pip", "--no-deps", "--progress-spinner", "off", "--format", "json")
    command = [sys.executable, "-m", "pip_audit", *options, "-r", str(file)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        print(f"{SKIPPED} did not answer within {SECONDS} s")
        return 0
    try:
        dependencies = json.loads(done.stdout)["dependencies"]
    except ValueError:  # it has no list to print where it has no connection
        print(f"{SKIPPED} are out of reach ({(done.stderr.strip().splitlines() or ['no reason'])[-1]})")
        return 0
    asked = [each for each in dependencies if "skip_reason" not in each]
    if not asked:
        print(f"{SKIPPED} are not where packages come from here, which knows none of {len(dependencies)}")
        return 0
    weak = {f"{each['name']} {each['version']}": each["vulns"] for each in asked if each["vulns"]}
    for name, found in weak.items():
        mended = {version for each in found for version in each["fix_versions"]}
        print(
            f"{name}: {', '.join(each['id'] for each in found)}; mended in {', '.join(mended) or 'none yet'}"
        )
    print(f"audit: {len(weak)} of {len(asked)} dependencies have known weaknesses")
    return int(bool(weak))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
