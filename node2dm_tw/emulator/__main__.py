"""``python -m node2dm_tw.emulator``: an emulator for a test, which ends with its standard input.

When it listens, it prints one line of JSON with its URLs and files; it logs to standard error.
"""

import argparse
import sys
from pathlib import Path

from node2dm_tw.emulator.server.tap import run_until_input_ends
from node2dm_tw.emulator.settings import EmulatorSettings, read_section


def settings_of_arguments() -> EmulatorSettings:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m node2dm_tw.emulator", description=__doc__)
    parser.add_argument("--state-dir", type=Path, required=True)
    for option in ("listen", "phones", "accounts-file", "sender-quota", "device-quota"):
        parser.add_argument(f"--{option}", default="", help="as in the configuration file")
    given = vars(parser.parse_args())
    state_dir = given.pop("state_dir")
    section = {name: text for name, text in given.items() if text}
    settings, errors = read_section(section, state_dir, Path.cwd())
    if settings is None:
        parser.error("; ".join(errors))
    return settings


if __name__ == "__main__":
    sys.exit(run_until_input_ends(settings_of_arguments()))
