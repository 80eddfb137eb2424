"""Is a run what its files say? ``python -m tools.verify work_dir/demo``

Compares config.yaml, environment.json and the checkpoint with each other, then with the code, the versions and the data
that are here, and tests the checkpoint again: every score and every figure within 1e-5. Ends with 0 where that is so,
and with 2 where records contradict each other, the data is other data, or the figures are others. Other code, versions
or machine are named, but do not matter as long as the figures are the same.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial

from processor.command_line import add_plugin, run_command, split_assignment
from processor.errors import ConfigError
from processor.host import say
from processor.verify import TOLERANCE, verify


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("run", metavar="RUN", help="a run's folder (its last.pt), a checkpoint in it, or zoo:NAME")
    many = "another machine, number of threads or version of torch may need 1e-3"
    options.add_argument("--tolerance", type=float, default=TOLERANCE, help=f"default {TOLERANCE}; {many}")
    where = "such as feeder_args.data_path=..., where the data lies elsewhere now"
    options.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help=where)
    add_plugin(options)
    return options


def run(arguments: argparse.Namespace) -> None:
    """Prints a line for each thing that was compared; ConfigError where the run is not what its files say."""
    bad = []
    overrides = dict(map(split_assignment, arguments.set))
    for finding in verify(arguments.run, overrides, arguments.plugin, arguments.tolerance):
        say(f"{finding.verdict:8}{finding.what:10}{finding.detail}")
        if finding.bad:
            bad.append(f"{finding.verdict} {finding.what}")
    if bad:
        raise ConfigError(f"{arguments.run} is not verified: {', '.join(bad)}")
    say(f"verified: {arguments.run}")


main = partial(run_command, run, parser(), log_to="stderr")

if __name__ == "__main__":
    sys.exit(main())
